"""Speed, as ratios: both sides on the same machine in the same interleaved run. `python -m bench --help`."""
