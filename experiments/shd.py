"""Spiking Heidelberg Digits: spoken digits, English and German, as spikes of a cochlea's 700 channels.

    python -m experiments.shd --method=exodus

B. Cramer et al., "The Heidelberg spiking data sets for the systematic evaluation of spiking neural networks", IEEE
TNNLS 2020. Five neighbouring channels are added up to 140, T = 100 bins of 10 ms cover the first second, counts up to
4. Two hidden layers of 128. Feed-forward nets without delays are reported with 65 to 75 % on the test; none has been
measured here.

Before training it says what logistic regression makes of the counts of all spikes, without their times. There are no
published samples to choose an epoch by, and choosing by the test is worth about a point: here a tenth of the training
samples is not trained on and chooses. The test has 2,264 samples, some of two speakers who are in no training sample.

The files are to be fetched once, as the message says; they are read by h5py, `pip install 'safjax[events]'`.
"""

import sys

from experiments.config import Config, Data, Net, Training
from experiments.training import cli

CONFIG = Config(
    data=Data(dataset="shd", augmentation="none", steps=100, batch_size=128, held_out=0.1),
    net=Net(layers=(128, 128), decay=0.9),
    training=Training(method="exodus", epochs=100, optimizer="adam", learning_rate=1e-3, loss_mse=0.0),
)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
