"""The work of a training step, the same for every library; needs NumPy only."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

Network = Literal["vgg", "dense", "conv", "resnet"]

STEPS: dict[Network, int] = {"vgg": 6, "dense": 100, "conv": 6, "resnet": 6}
BATCH_SIZES: dict[Network, int] = {"vgg": 16, "dense": 64, "conv": 16, "resnet": 16}
IMAGE_SIZES: dict[Network, int] = {"vgg": 32, "conv": 32, "resnet": 224}
CLASSES: dict[Network, int] = {"vgg": 10, "dense": 20, "conv": 10, "resnet": 1000}
NAMES: dict[Network, str] = {"vgg": "VGG", "conv": "conv 64-128-P-256-P-10", "resnet": "NF-ResNet-34"}

INPUTS, INPUT_RATE = 700, 0.03
"""Of dense: each input unit fires at random in 3 % of the steps."""


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
        64-128-pool-256-pool and a dense layer to 10 classes; resnet, `safjax.models.nf_resnet34` for ImageNet.
      steps: T.
      batch_size: B.
      width: factor of all channels, of dense of the hidden neurons.
      image_size: height and width of the images; not used by dense.
    """

    network: Network
    steps: int
    batch_size: int
    width: float = 1.0
    image_size: int = 32

    @property
    def static(self) -> bool:
        """Whether the inputs are images, shown for T steps, or time-major sequences."""
        return self.network != "dense"

    @property
    def decay(self) -> float:
        """λ of all neurons."""
        return 0.5 if self.static else 0.95

    @property
    def mse_weight(self) -> float:
        """Of the loss of a step, see `experiments.training.losses`."""
        return 0.05 if self.network == "vgg" else 0.0

    @property
    def classes(self) -> int:
        """Outputs."""
        return CLASSES[self.network]

    def scaled(self, size: int) -> int:
        """Channels, or neurons, times the width."""
        return max(1, round(self.width * size))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the layers of dense, the inputs first; the channels of conv, the image's first."""
        if self.static:
            return (3, *map(self.scaled, (64, 128, 256)))
        return (INPUTS, self.scaled(256), self.scaled(256), self.classes)

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.subject}, T = {self.steps}"

    @property
    def subject(self) -> str:
        """In words, without the steps."""
        if not self.static:
            return f"dense {'-'.join(map(str, self.sizes))}, {INPUT_RATE:.0%} spikes, batch {self.batch_size}"
        size = f"{self.image_size}×{self.image_size}×3"
        return f"{NAMES[self.network]} × {self.width:g}, {size}, batch {self.batch_size}"

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
        size = image_size or IMAGE_SIZES.get(network, 32)
        return cls(network, steps or STEPS[network], batch_size or BATCH_SIZES[network], width, size)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels: images x[B, H, W, 3] with power at low frequencies, or spike trains x[T, B, 700]."""
        rng, labels = np.random.default_rng(0), np.arange(self.batch_size) % self.classes
        if not self.static:
            spikes = rng.random((self.steps, self.batch_size, INPUTS)) < INPUT_RATE
            return spikes.astype(np.float32), labels
        size, patches = self.image_size, -(-self.image_size // 8)
        coarse = rng.normal(size=(self.batch_size, patches, patches, 3))
        return coarse.repeat(8, 1).repeat(8, 2)[:, :size, :size].astype(np.float32), labels
