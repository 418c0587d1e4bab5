"""Importers: recorded market data into the tick log, one module a kind of file."""
