"""Stages, histograms, ``.hlog`` files, the loop-stall meter and the clock offset."""
