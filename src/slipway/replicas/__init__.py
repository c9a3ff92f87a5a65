"""What a keeper does: starts, stops and lists hosts of models; fetches artifacts, builds environments. Knows no SQL."""
