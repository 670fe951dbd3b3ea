"""Spiking Speech Commands: 35 spoken words as spikes of a cochlea's 700 channels.

    python -m experiments.ssc --method=exodus

All as in `experiments.shd`, with 75,466 samples for training and 20,382 for the test, and 9,981 published for
validation, which choose the epoch. Feed-forward nets without delays are reported with about 50 %; none has been
measured here.
"""

import sys

from experiments import shd
from experiments.training import cli

CONFIG = shd.CONFIG.changed(dataset="ssc", epochs=40, held_out=0.0)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
