"""Randman: ten classes of spike patterns with the same spike counts, told apart by timing alone.

    python -m experiments.randman --method=exodus

Zenke & Vogels, "The remarkable robustness of surrogate gradient learning for instilling complex function in spiking
neural networks", Neural Computation 33, 2021. Each class is a smooth random surface (D = 2, alpha = 2) in the space of
the spike times of 100 units; two hidden layers of 128 fire at 12 and 14 % before training; the loss is the mean of the
cross-entropies of all 100 steps.

Measured on two shared CPU cores, mean and standard deviation of the seeds 0, 1, 2, by
`python -m experiments.compare randman --methods exodus bptt slayer sltt ottt_a saf_f saf_e`:

    method   test accuracy, %   seconds
    exodus     99.8 ± 0.1       70 ± 12
    bptt       99.8 ± 0.1       50 ± 8
    slayer     97.7 ± 0.5       78 ± 2
    sltt       97.7 ± 0.5       56 ± 13
    ottt_a     99.6 ± 0.1       46 ± 8
    saf_f      99.4 ± 0.1       17 ± 6
    saf_e      26.8 ± 14.5      49 ± 3

The rules saf_e and ottt_o update at each of the 100 steps, with a hundredth of the gradient, but Adam's update does not
shrink with its gradient: they need a smaller learning rate. Test accuracy of seed 0, in some 50 s each:

    method   5e-3, as here   --learning-rate=5e-4
    saf_e      39.8 %          99.9 %
    ottt_o     96.7 %         100.0 %
"""

import sys

from experiments import cli
from experiments.config import Config

CONFIG = Config(
    method="exodus",
    dataset="randman",
    augmentation="none",
    layers=(128, 128),
    steps=100,
    decay=0.95,
    epochs=8,
    batch_size=128,
    optimizer="adam",
    learning_rate=5e-3,
    loss_mse=0.0,
)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
