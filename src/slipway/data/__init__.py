"""Carries requests to replicas and their answers back; starts nothing, writes no status."""
