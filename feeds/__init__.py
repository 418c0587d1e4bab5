"""Bytes to ordered bursts: sources, cleaning, sequencing, tick log, link, gateway."""
