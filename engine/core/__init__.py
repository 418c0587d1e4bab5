"""Records, errors, ports and settings shared by every room; does no I/O, imports no room."""
