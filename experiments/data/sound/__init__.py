"""Sound: recordings as waves, what a cochlea makes of them, and the sets of them."""
