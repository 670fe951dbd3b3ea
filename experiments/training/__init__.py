"""From a configuration to a trained net: the feed of batches, the net, the optimizer, and the epochs of a run."""
