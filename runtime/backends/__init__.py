"""One library that runs models a file; nothing here is imported before its probe."""
