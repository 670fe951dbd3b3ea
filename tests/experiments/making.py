"""From one configuration to the parts of a run, each given what is its own."""

from experiments.data import Shape
from experiments.distribution.devices import choose
from experiments.training.feed import Feed
from experiments.training.networks import build_net
from experiments.training.trainer import Trainer


def devices_of(config):
    return choose(config.run, config.data.batch_size)


def feed_of(dataset, config):
    return Feed(dataset, config.data, config.training.seed, devices_of(config))


def net_of(config, input_shape, num_classes, input_rate=None):
    return build_net(config.net, Shape(input_shape, num_classes, input_rate), config.training.seed)


def trainer_of(config, feed):
    net = build_net(config.net, feed.shape, config.training.seed)
    return Trainer(config.training, feed, net, devices_of(config))
