"""CIFAR-10 by the recipe of online training through time.

    python -m experiments.cifar10 --method=saf_f

Xiao et al., "Online training through time for spiking neural networks", 2022 (arXiv 2210.04195): the VGG of 9,228,362
parameters, T = 6, decay 0.5, SGD 0.1 with momentum 0.9, cosine to 0, 300 epochs, batch 128, 0.95 CE + 0.05 MSE, crop,
flip and cutout. Table 1 there, and the tables of Saiin et al., "Spike accumulation forwarding for effective training of
spiking neural networks" (arXiv 2310.02772), hold the accuracies to compare with; none has been measured here.

The output is the leaky readout, which suits all methods; --readout=instant is that of the published code. The images
are fetched once, or taken from the archive placed by hand where the message says.
"""

import sys

from experiments.config import Config, Data, Net, Training
from experiments.training import cli

CONFIG = Config(
    data=Data(dataset="cifar10", augmentation="crop_flip_cutout", steps=6, batch_size=128),
    net=Net(layers=(64, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512), decay=0.5),
    training=Training(epochs=300, optimizer="sgd", learning_rate=0.1, momentum=0.9, loss_mse=0.05),
)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
