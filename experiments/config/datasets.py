"""The data sets there are: a new one is a file with its loader, and one line here.

Nothing is imported by looking here, and of the loaders only that of the data set in use (`experiments.data.load`).
"""

DATASETS = {
    "cifar10": "experiments.data.images.published:load_cifar10",
    "cifar100": "experiments.data.images.published:load_cifar100",
    "fashion_mnist": "experiments.data.images.published:load_fashion_mnist",
    "digits": "experiments.data.images.digits:load",
    "randman": "experiments.data.events.randman:load",
    "spoken_digits": "experiments.data.sound.spoken_digits:load",
    "saccades": "experiments.data.events.saccades:load",
    "fashion_saccades": "experiments.data.events.saccades:load_fashion",
    "speech_direction": "experiments.data.sound.speech_direction:load",
    "nmnist": "experiments.data.events.published:load_nmnist",
    "shd": "experiments.data.events.published:load_shd",
    "ssc": "experiments.data.events.published:load_ssc",
    "dvs_gesture": "experiments.data.events.published:load_dvs_gesture",
    "cifar10_dvs": "experiments.data.events.published:load_cifar10_dvs",
    "imagenet": "experiments.data.images.published:load_imagenet",
}
"""MODULE:FUNCTION of each: (folder of the data sets) ↦ an `experiments.data.DataSet`."""
