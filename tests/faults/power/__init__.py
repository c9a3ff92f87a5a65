"""Power loss and disk faults: every write of a process is logged (or refused), and replayed up to any moment."""
