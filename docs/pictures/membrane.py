"""Draws membrane.svg: one LIF neuron under an input, and what OTTT and SAF keep of its spikes.

python docs/pictures/membrane.py
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from flax import nnx

import safjax
from safjax.nn import LIF, LeakyReadout

STEPS, DECAY = 60, 0.8
PATH = Path(__file__).with_name("membrane.svg")


def neuron() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Potentials and spikes of a neuron, and its input."""
    current = 0.18 + 0.3 * jnp.sin(jnp.arange(STEPS) / 6) ** 2 + 0.1 * jax.random.normal(jax.random.key(1), (STEPS,))
    net = nnx.Sequential(LIF(DECAY), LeakyReadout())
    run = safjax.simulate(net, current[:, None, None], record=("spikes", "potential"))
    potential, spikes = (run.records[name]["layers.0"][:, 0, 0] for name in ("potential", "spikes"))
    return np.asarray(potential), np.asarray(spikes), np.asarray(current)


def traces(spikes: np.ndarray) -> tuple[list[float], list[float]]:
    """Its trace a and its rate a / Λ after each step."""
    a = gain = 0.0
    kept = []
    for spike in spikes:
        a, gain = DECAY * a + float(spike), DECAY * gain + 1
        kept.append((a, a / gain))
    return [a for a, _ in kept], [rate for _, rate in kept]


def main() -> None:
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "safjax", "font.size": 9})
    from matplotlib import pyplot as plt

    potential, spikes, current = neuron()
    a, rate = traces(spikes)
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(7, 4), sharex=True, height_ratios=(3, 1, 2))
    top.plot(potential, color="C0", label="potential u")
    top.plot(current, color="0.6", label="input I")
    top.axhline(1, color="C3", linewidth=0.8, linestyle="--", label="threshold θ")
    middle.vlines(np.flatnonzero(spikes), 0, 1, color="C0")
    middle.set(yticks=[], ylabel="spikes s")
    bottom.plot(a, color="C1", label="trace a (OTTT)")
    bottom.plot(rate, color="C2", label="rate a / Λ (SAF)")
    bottom.set(xlabel="time step")
    for axes in (top, bottom):
        axes.legend(loc="upper right", ncols=3, frameon=False)
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    for axes in (top, middle, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    figure.patch.set_facecolor("white")
    figure.tight_layout()
    figure.savefig(PATH, metadata={"Date": None})


if __name__ == "__main__":
    main()
