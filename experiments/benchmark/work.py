"""The work of a training step, the same for every library; needs NumPy only."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

Network = Literal["vgg", "dense", "conv", "resnet", "pooled", "gesture", "recurrent", "spikformer"]


class Usual(NamedTuple):
    """What a network usually has.

    Attributes:
      name: in words.
      steps: T.
      batch_size: B.
      classes: outputs.
      decay: λ of all neurons.
      image_size: height and width of the images, of spikformer one token a pixel; None where there are none.
      rate: part of the steps in which each input fires at random; None where images are shown.
      smallest: image size that it can have.
    """

    name: str
    steps: int
    batch_size: int
    classes: int
    decay: float = 0.5
    image_size: int | None = None
    rate: float | None = None
    smallest: int = 8


INPUT_RATE = 0.03
"""Of dense and recurrent: each input unit fires at random in 3 % of the steps."""

USUAL: dict[Network, Usual] = {
    "vgg": Usual("VGG", 6, 16, 10, image_size=32),
    "dense": Usual("dense", 100, 64, 20, 0.95, rate=INPUT_RATE),
    "conv": Usual("conv 64-128-P-256-P-10", 6, 16, 10, image_size=32),
    "resnet": Usual("NF-ResNet-34", 6, 16, 1000, image_size=224),
    "pooled": Usual("pooled 12C5-P-64C5-P-10", 25, 32, 10, 0.9, image_size=28, rate=0.2, smallest=16),
    "gesture": Usual("gesture 32C3-N-P-32C3-N-P-32C3-N-P-11", 16, 8, 11, image_size=32, rate=0.1),
    "recurrent": Usual("recurrent", 100, 64, 20, 0.95, rate=INPUT_RATE),
    "spikformer": Usual("spikformer, one block", 4, 16, 10, image_size=8, rate=0.2),
}
STEPS: dict[Network, int] = {network: usual.steps for network, usual in USUAL.items()}
INPUTS = 700
RECURRENT_WEIGHT = 0.24
"""Standard deviation of the weights from the inputs to the neurons of recurrent, with which these fire."""

HEADS = 4
"""Of the attention of spikformer."""


class Program(NamedTuple):
    """What is known of a compiled step.

    Attributes:
      temp_bytes: of XLA's temporary buffers; None where XLA is not used.
      operations: multiplications and additions of its matrix products and convolutions; None where not counted.
      compile_seconds: until it was traced and compiled; None where nothing is compiled ahead.
      device: it runs on.
    """

    temp_bytes: int | None = None
    operations: int | None = None
    compile_seconds: float | None = None
    device: str = "cpu"


class Prepared(NamedTuple):
    """A training step that is ready to be taken.

    Attributes:
      step: takes one, waits for its end, and returns the loss.
      program: compiles it, and says what is known of it; to be called before the first step.
    """

    step: Callable[[], float]
    program: Callable[[], Program] = Program


@dataclasses.dataclass(frozen=True)
class Work:
    """Network, sizes and batch.

    Attributes:
      network: vgg, the published one of `safjax.models.SpikingVGG`; dense, 700-256-256-20; conv, 3×3 convolutions
        64-128-pool-256-pool and a dense layer to 10 classes; resnet, `safjax.models.nf_resnet34` for ImageNet; pooled,
        5×5 convolutions 12-pool-64-pool and a dense layer to 10, the net of snnTorch's tutorials; gesture, three 3×3
        convolutions to 32 channels, each normalised over the batch and pooled, and a dense layer to 11; recurrent, the
        700-128-20 of `safjax.models.SpikingRNN`; spikformer, one block of `safjax.models.Spikformer`, of 64 tokens of
        128 channels with 4 heads, whose mean over tokens is classified.
      steps: T.
      batch_size: B.
      width: factor of all channels, of dense and recurrent of the hidden neurons.
      image_size: height and width of the images, in spikformer one token a pixel; not used by dense and recurrent.
    """

    network: Network
    steps: int
    batch_size: int
    width: float = 1.0
    image_size: int = 32

    @property
    def static(self) -> bool:
        """Whether the inputs are images, shown for T steps, or time-major sequences."""
        return USUAL[self.network].rate is None

    @property
    def decay(self) -> float:
        """λ of all neurons."""
        return USUAL[self.network].decay

    @property
    def mse_weight(self) -> float:
        """Of the loss of a step, see `experiments.training.losses`."""
        return 0.05 if self.network == "vgg" else 0.0

    @property
    def classes(self) -> int:
        """Outputs."""
        return USUAL[self.network].classes

    def scaled(self, size: int) -> int:
        """Channels, or neurons, times the width."""
        return max(1, round(self.width * size))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the layers of dense and recurrent, the inputs first; the channels of the others, the input's first."""
        if self.network == "dense":
            return (INPUTS, self.scaled(256), self.scaled(256), self.classes)
        if self.network == "recurrent":
            return (INPUTS, self.scaled(128), self.classes)
        if self.network == "pooled":
            return (1, self.scaled(12), self.scaled(64))
        if self.network == "gesture":
            return (2, *[self.scaled(32)] * 3)
        if self.network == "spikformer":
            return (HEADS * self.scaled(128 // HEADS),)
        return (3, *map(self.scaled, (64, 128, 256)))

    @property
    def flat(self) -> int:
        """Inputs of the dense layer behind the last pooling of pooled and gesture."""
        size = self.image_size // 8 if self.network == "gesture" else ((self.image_size - 4) // 2 - 4) // 2
        return size**2 * self.sizes[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what one example is in one step: (H, W, C), or (inputs,)."""
        if USUAL[self.network].image_size is None:
            return (INPUTS,)
        return (self.image_size, self.image_size, self.sizes[0])

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.subject}, T = {self.steps}"

    @property
    def subject(self) -> str:
        """In words, without the steps."""
        usual, shape = USUAL[self.network], "×".join(map(str, self.shape))
        if usual.image_size is None:
            what = f"{usual.name} {'-'.join(map(str, self.sizes))}"
        else:
            what = f"{usual.name} × {self.width:g}, {shape}"
        rate = "" if usual.rate is None else f", {usual.rate:.0%} spikes"
        return f"{what}{rate}, batch {self.batch_size}"

    @classmethod
    def usual(
        cls,
        network: Network,
        steps: int | None = None,
        batch_size: int | None = None,
        width: float = 1.0,
        image_size: int | None = None,
    ) -> "Work":
        """With the sizes that a network usually has where None is given."""
        usual = USUAL[network]
        size = image_size or usual.image_size or 32
        return cls(network, steps or usual.steps, batch_size or usual.batch_size, width, size)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels: images x[B, H, W, 3] with power at low frequencies, or spike trains x[T, B, *shape]."""
        rng, labels, rate = (
            np.random.default_rng(0),
            np.arange(self.batch_size) % self.classes,
            USUAL[self.network].rate,
        )
        if rate is not None:
            spikes = rng.random((self.steps, self.batch_size, *self.shape)) < rate
            return spikes.astype(np.float32), labels
        size, patches = self.image_size, -(-self.image_size // 8)
        coarse = rng.normal(size=(self.batch_size, patches, patches, 3))
        return coarse.repeat(8, 1).repeat(8, 2)[:, :size, :size].astype(np.float32), labels
