"""Spiking Speech Commands: 35 spoken words as spikes of a cochlea's 700 channels.

    python -m experiments.ssc --method=exodus

All as in `experiments.shd`, with 75,466 samples for training and 20,382 for the test. Feed-forward nets without delays
are reported with about 50 %; none has been measured here. The samples published for validation are not used: a tenth
of those for training chooses the epoch.
"""

import sys

from experiments import shd
from experiments.training import cli

CONFIG = shd.CONFIG.changed(dataset="ssc", epochs=40)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
