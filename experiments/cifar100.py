"""CIFAR-100 by the recipe of online training through time.

    python -m experiments.cifar100 --method=saf_f

Xiao et al., "Online training through time for spiking neural networks", 2022 (arXiv 2210.04195): all as in
`experiments.cifar10`, with 100 classes and 9,274,532 parameters. Table 1 there, and the tables of Saiin et al. (arXiv
2310.02772), hold the accuracies to compare with; none has been measured here.
"""

import sys

from experiments import cifar10
from experiments.training import cli

CONFIG = cifar10.CONFIG.changed(dataset="cifar100")

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
