"""One compiled rule a file; each ends in its ``SPEC``."""
