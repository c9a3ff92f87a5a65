"""Each module builds one process, in order, and is its table of contents; nothing else constructs."""
