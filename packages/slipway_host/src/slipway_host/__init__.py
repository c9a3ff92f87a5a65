"""Runs inside a replica, in the interpreter of the model's environment. Standard library only; never imports slipway."""

__version__ = "0.1.0"
