"""The command line, one module per group of commands; arguments, environment and file become Settings here."""
