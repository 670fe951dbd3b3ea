"""Saccades: handwritten digits before a simulated event camera that moves as N-MNIST's did.

    python -m experiments.saccades --method=ottt_a

scikit-learn's 1,797 digits, 16 × 16, wander along three saccades of 105 ms over a sensor of 20 × 20 pixels, each of
which sends an event where it grows brighter (ON) or darker (OFF) by a fifth, and some noise (`safjax.data.Camera`). A
recording becomes T = 12 frames of 26.25 ms, OFF and ON apart, counts up to 4. Three convolutions with average pooling;
the last map is flattened, since where spikes are tells digits apart. Needs no download.

Before training it says what logistic regression makes of the counts of all events, without their times. A tenth of the
training recordings is not trained on: it chooses the best epoch, and the test has no part in that. The work directory
has event frames of some recordings in `inputs.png`.

--chain=2 --steps=24 --epochs=8 joins recordings of 0 and 1, in either order, and asks for the order: counts alone tell
50 % of the 72 test examples, the net all (seed 0).
"""

import sys

from experiments.config import Config, Data, Net, Training
from experiments.training import cli

CONFIG = Config(
    data=Data(dataset="saccades", augmentation="none", steps=12, batch_size=64, held_out=0.1),
    net=Net(layers=(16, "M", 32, "M", 64, "M"), head="flatten", decay=0.5),
    training=Training(method="ottt_a", epochs=20, optimizer="adam", learning_rate=3e-3, loss_mse=0.0),
)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
