"""Speech played forward or backward, as the events of a cochlea: the same sounds, told apart by their course in time.

    python -m experiments.speech_direction --method=exodus

The middle second of recorded prompts in five languages, 32 mel bands, an event for every factor e by which the energy
of a band has grown (ON) or fallen (OFF), T = 100 steps of 10 ms. Two hidden layers of 128. What is said in the test is
said in no training recording, in any language.

Before training it says what logistic regression makes of the counts of all events, without their times. A tenth of the
training examples is not trained on: it chooses the best epoch, and the test has no part in that.

The recordings are Debian's packages asterisk-core-sounds-{en,es,fr,it,ru}-wav, found where these put them, or placed by
hand as the message says.
"""

import sys

from experiments.config import Config, Data, Net, Training
from experiments.training import cli

CONFIG = Config(
    data=Data(dataset="speech_direction", augmentation="none", steps=100, batch_size=64, held_out=0.1),
    net=Net(layers=(128, 128), decay=0.8),
    training=Training(method="exodus", epochs=30, optimizer="adam", learning_rate=3e-3, loss_mse=0.0),
)

if __name__ == "__main__":
    sys.exit(cli.main(CONFIG, __doc__))
