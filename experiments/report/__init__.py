"""Curves, spikes and energy of several runs on one page.

    python -m experiments.report RUN... --output=report.html

The page is one file that needs nothing else: open it in any browser. For spikes and energy the nets are run again on a
few test examples; a data set that is not stored is fetched as in training, and where it cannot be, the page says so.
"""
