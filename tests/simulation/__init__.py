"""A simulator: control, dispatchers, replicas and an object store on virtual time, killed at chosen moments; what must hold.

The code under test is the real one, from the accepting of a request to its notification, alarms and autoscaler included. What
is replaced lies below it: the clock, sockets, the disk under the database, the model. One random source decides everything, so
that `python -m tests.simulation SEED --trace` shows a run again.
"""
