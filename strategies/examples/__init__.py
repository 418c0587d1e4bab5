"""Python strategies to start from."""
