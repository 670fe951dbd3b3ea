"""Runnable experiments: the data, the trainer and one thin module for each data set."""
