"""docs/coverage.md, generated: every operation and member of the hosting surface, from botocore's model and our tables.

A member is done, refused by name, or accepted without effect; one that no table knows fails the check, so that a new botocore
cannot add a field that slipway silently ignores.
"""
