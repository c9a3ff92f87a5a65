"""Modules that scripts written for AWS's containers import. This folder is put last on a worker's path, so that the real
packages win where an environment has them; only what scripts use is here (containers.md 3.13)."""
