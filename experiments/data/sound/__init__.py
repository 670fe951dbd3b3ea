"""Sound: sets of recordings, as the events that a cochlea makes of them."""
