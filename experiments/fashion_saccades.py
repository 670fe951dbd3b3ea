"""Clothes before a simulated event camera: the saccades of `experiments.saccades` over 6,000 and 1,000 images of
Fashion-MNIST.

    python -m experiments.fashion_saccades --method=ottt_a

28 × 28 pixels move over a sensor of 36 × 36. Recordings are made once, in some minutes, and kept in the folder of the
data sets.

Before training it says what logistic regression makes of the counts of all events, without their times. A tenth of the
training recordings is not trained on: it chooses the best epoch, and the test has no part in that.
"""

import sys

from experiments import saccades
from experiments.training import cli

CONFIG = saccades.CONFIG.changed(dataset="fashion_saccades")

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
