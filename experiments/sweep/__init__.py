"""Experiments with all combinations of some flags' values; see `python -m experiments.sweep --help`."""
