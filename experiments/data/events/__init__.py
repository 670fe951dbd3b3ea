"""Spikes in time."""
