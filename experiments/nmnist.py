"""N-MNIST: handwritten digits on a screen, seen by a real event camera that moves.

    python -m experiments.nmnist --method=ottt_a

G. Orchard et al., Frontiers in Neuroscience 2015: 60,000 and 10,000 recordings, or a subset of 1,000 and 100, whichever
is there. T = 12 frames of 26.25 ms, three saccades of four; OFF and ON apart, counts up to 4; training shifts each
recording by up to 2 of its 34 pixels. Three convolutions with average pooling; the last map is flattened.

Before training it says what logistic regression makes of the counts of all events, without their times. A tenth of the
training recordings is not trained on: it chooses the best epoch, and the test has no part in that.

The recordings are to be fetched once, as the message says.
"""

import sys

from experiments import saccades
from experiments.training import cli

CONFIG = saccades.CONFIG.changed(dataset="nmnist", augmentation="crop", epochs=25)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
