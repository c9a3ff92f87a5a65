"""Values and decisions: standard library only, no I/O, no clock, no chance; both are arguments."""
