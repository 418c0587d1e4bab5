"""One streaming indicator a file; each ends in its ``SPEC``."""
