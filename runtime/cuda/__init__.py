"""CUDA memory, streams, events and graphs behind one small interface, with two drivers."""
