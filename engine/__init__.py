"""The daemon: composition, event loop, pipeline, risk gate, journal, stream, command line."""
