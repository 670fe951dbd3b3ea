"""Randman: ten classes of spike patterns with the same spike counts, told apart by timing alone.

    python -m experiments.randman --method=exodus

Zenke & Vogels, "The remarkable robustness of surrogate gradient learning for instilling complex function in spiking
neural networks", Neural Computation 33, 2021. Each class is a smooth random surface (D = 2, alpha = 2) in the space of
the spike times of 100 units; two hidden layers of 128 fire at 12 and 14 % before training; the loss is the mean of the
cross-entropies of all 100 steps.

Measured on two shared CPU cores, mean and standard deviation over the seeds 0, 1, 2, by
`python -m experiments.sweep randman --method=exodus,bptt,slayer,sltt,ottt_a,saf_f --seed=0,1,2`:

    method   test accuracy, %   seconds
    exodus     99.7 ± 0.1       38 ± 2
    bptt       99.8 ± 0.1       45 ± 11
    slayer     97.7 ± 0.5       36 ± 3
    sltt       97.7 ± 0.5       46 ± 9
    ottt_a     99.6 ± 0.1       54 ± 14
    saf_f      99.4 ± 0.1       25 ± 8

and, with --learning-rate=5e-4, of the rules that update at each of the 100 steps. Their gradients are a hundredth as
large, but Adam's update does not shrink with its gradient; at 5e-3 saf_e fails (39.8 %, seed 0) and ottt_o suffers
(96.7 %).

    saf_e     100.0 ± 0.1       48 ± 2
    ottt_o    100.0 ± 0.0       46 ± 2
"""

import sys

from experiments.config import Config, Data, Net, Training
from experiments.training import cli

CONFIG = Config(
    data=Data(dataset="randman", augmentation="none", steps=100, batch_size=128),
    net=Net(layers=(128, 128), decay=0.95),
    training=Training(method="exodus", epochs=8, optimizer="adam", learning_rate=5e-3, loss_mse=0.0),
)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
