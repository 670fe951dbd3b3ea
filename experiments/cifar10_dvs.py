"""CIFAR10-DVS by the recipe of online training through time.

    python -m experiments.cifar10_dvs --method=ottt_a

H. Li et al., Frontiers in Neuroscience 2017: images of CIFAR-10 that move on a screen, seen by an event camera. The
recipe is that of Xiao et al., "Online training through time for spiking neural networks", 2022 (arXiv 2210.04195): 10
frames of equal numbers of events, the VGG, decay 0.5, SGD 0.1 with momentum 0.9, cosine to 0, 300 epochs, batch 128,
0.999 CE + 0.001 MSE, random shifts by a twelfth, 4 pixels; what it reports is to be compared with; nothing has been
measured here. Frames are 48 × 48 as published: pictures of the pixels with events, resized by bilinear weights; with
--pool=2 they are counts of events in squares of two pixels, 64 × 64.

No split is published. The test is the recordings 900 to 999 of each class, as there; accuracies on 0 to 99, as in other
work, are higher and not to be compared. Other than there, a tenth of the training recordings chooses the epoch;
--held-out=0 trains on all.
"""

import sys

from experiments import dvs_gesture
from experiments.training import cli

CONFIG = dvs_gesture.CONFIG.changed(
    dataset="cifar10_dvs", augmentation="crop", steps=10, batch_size=128, optimizer="sgd", learning_rate=0.1
)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
