"""ImageNet by the recipe of online training through time.

    python -m experiments.imagenet --method=saf_f

Xiao et al., "Online training through time for spiking neural networks", 2022 (arXiv 2210.04195): the NF-ResNet-34 of
21,797,688 parameters, T = 6, decay 0.5, SGD 0.1 with momentum 0.9 and weight decay 2e-5, cosine to 0, 100 epochs, batch
256, cross-entropy, random resized crop to 224 and flip; tested on the middle 224 of images resized to 256. Table 1
there holds the accuracy to compare with; none has been measured here.

The output is the leaky readout, which suits all methods; --readout=instant is that of the published code.

The images are given out to registered users only, at https://image-net.org/download-images. Put
ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into <data-dir>/downloads/manual/. The first start copies them
into <data-dir>/imagenet2012/, which takes their size in disk space, 155 GB, and as much again meanwhile; afterwards the
archives are not needed any more. Images are decoded as they are used, on all cores.
"""

import sys

from experiments.config import Config, Data, Net, Training
from experiments.training import cli

CONFIG = Config(
    data=Data(dataset="imagenet", augmentation="resized_crop_flip", image_size=224, steps=6, batch_size=256),
    net=Net(network="nf_resnet34", decay=0.5),
    training=Training(epochs=100, optimizer="sgd", learning_rate=0.1, momentum=0.9, weight_decay=2e-5, loss_mse=0.0),
)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
