"""Whether a run fits on an accelerator, and what it costs there: `python -m experiments.fits --help`."""
