"""Pictures: the lines and bars that are drawn are those of the arrays, and wrong arrays are refused in words."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from flax import nnx
from matplotlib.figure import Figure

import safjax
from safjax import plots
from safjax.nn import LIF, LeakyReadout, Synapse
from safjax.surrogate import Sigmoid, Triangle

T, N = 7, 3


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def run():
    """One example's (spikes, potential, membrane), each [T, N], of neurons that fire."""
    net = nnx.Sequential(LIF(0.8), LeakyReadout())
    x = jax.random.uniform(jax.random.key(0), (T, 1, N), maxval=1.1)
    names = ("spikes", "potential", "membrane")
    records = safjax.simulate(net, x, record=names).records
    spikes, potential, membrane = (np.asarray(records[name]["layers.0"][:, 0]) for name in names)
    assert 0.1 < spikes.mean() < 0.6
    return spikes, potential, membrane


def bars_of(line):
    """(x, lower end, upper end) of each bar of a raster."""
    x, y = line.get_data()
    assert np.isnan(y[2::3]).all()
    return sorted(zip(x[::3], y[::3], y[1::3], strict=True))


def test_raster_has_a_bar_where_a_neuron_fires(run, ax):
    assert plots.raster(run[0], ax) is ax
    expected = [(t + 1, n - 0.42, n + 0.42) for t, n in zip(*np.nonzero(run[0]), strict=True)]
    np.testing.assert_allclose(bars_of(ax.lines[-1]), sorted(expected))
    assert ax.get_xlim() == (0.5, T + 0.5) and ax.get_ylim() == pytest.approx((-0.7, N - 0.3))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time step", "neuron")
    assert all(tick % 1 == 0 for tick in [*ax.get_xticks(), *ax.get_yticks()])


def test_raster_stands_where_it_is_told(ax):
    plots.raster(np.eye(2, dtype=bool), ax, times=[5, 9], rows=[10, 20], height=2)
    np.testing.assert_allclose(bars_of(ax.lines[-1]), [(5, 9, 11), (9, 19, 21)])
    assert ax.get_ylim()[0] < 9 and ax.get_ylim()[1] > 21, "a bar is cut off"


def test_raster_of_silence_and_of_one_step(ax):
    plots.raster(np.zeros((1, 1)), ax)
    assert bars_of(ax.lines[-1]) == [] and ax.get_xlim() == (0.5, 1.5)


def test_membranes_fall_from_the_potential_to_what_a_reset_leaves(run, ax):
    spikes, potential, membrane = run
    plots.membranes(potential, membrane, ax, threshold=1.0)
    threshold, *neurons = ax.lines
    assert (threshold.get_ydata() == 1).all() and threshold.get_linestyle() == "--" and len(neurons) == 2 * N
    for n, (line, resets) in enumerate(zip(neurons[::2], neurons[1::2], strict=True)):
        x, y = line.get_data()
        np.testing.assert_array_equal(x, np.repeat(np.arange(1, T + 1), 2))
        np.testing.assert_allclose(y[::2], potential[:, n])
        np.testing.assert_allclose(y[1::2], membrane[:, n])
        np.testing.assert_array_equal(resets.get_xdata(), 1 + np.flatnonzero(spikes[:, n]))
        assert (resets.get_ydata() >= 1).all()


@pytest.mark.parametrize(
    ("threshold", "lines"), [(None, 0), (0.5, 1), ([1.0, 1.0, 1.0], 1), ([0.5, 1.0, 2.0], N), (np.ones((T, N)), 1)]
)
def test_thresholds_that_are_the_same_are_one_line(run, ax, threshold, lines):
    plots.membranes(*run[1:], ax, threshold=threshold, labels=["a", "b", "c"])
    assert len(ax.lines) == lines + 2 * N
    assert ax.get_legend_handles_labels()[1] == ["a", "b", "c"] and ax.get_legend() is None


def test_one_neuron_may_be_a_plain_sequence(run, ax):
    plots.membranes(run[1][:, 0], run[2][:, 0], ax, times=np.arange(T) / 1000)
    np.testing.assert_allclose(ax.lines[1].get_ydata()[::2], run[1][:, 0])
    assert ax.get_xlabel() == "time"


def test_rates_are_bars_of_one_net_or_several(ax):
    plots.rates({"lif1": 0.1, "lif2": jnp.float32(0.25)}, ax)
    (bars,) = ax.containers
    np.testing.assert_allclose([(b.get_x() + b.get_width() / 2, b.get_height()) for b in bars], [(0, 0.1), (1, 0.25)])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["lif1", "lif2"]
    several = Figure().subplots()
    plots.rates({"lif1": [0.1, 0.2], "lif2": [0.3, 0.4]}, several, names=["bptt", "saf_f"])
    assert [[b.get_height() for b in bars] for bars in several.containers] == [[0.1, 0.3], [0.2, 0.4]]
    edges = np.sort([b.get_x() for bars in several.containers for b in bars])
    assert (np.diff(edges) > several.containers[0][0].get_width()).all(), "bars overlap"


def test_rates_over_moments_are_lines(ax):
    plots.rates({"lif1": [0.1, 0.2, 0.3], "lif2": [0.3, 0.2, 0.1]}, ax, over=[0, 10, 20], look=lambda n: {"lw": 1 + n})
    assert [line.get_label() for line in ax.lines] == ["lif1", "lif2"]
    assert [line.get_linewidth() for line in ax.lines] == [1, 2] and ax.get_ylim()[0] == 0
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [(0, 0.3), (10, 0.2), (20, 0.1)])


def test_surrogates_are_their_slopes(ax):
    x = np.linspace(-1, 1, 9)
    plots.surrogates({"mine": jax.nn.sigmoid, "triangle": Triangle(0.5)}, ax, x=x)
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), s * (1 - s), rtol=1e-5)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 2 * np.maximum(0, 1 - np.abs(x) / 0.5), atol=1e-6)
    alone = plots.surrogates(Sigmoid(4.0), Figure().subplots())
    assert alone.lines[0].get_label() == "Sigmoid(alpha=4.0)" and alone.lines[0].get_ydata().max() == 1


@pytest.fixture(scope="module")
def compared():
    layers = [Synapse(nnx.Linear(4, 5, rngs=nnx.Rngs(0))), LIF(0.7, 0.3), Synapse(nnx.Linear(5, 2, rngs=nnx.Rngs(1)))]
    net, x = nnx.Sequential(*layers, LeakyReadout()), jax.random.normal(jax.random.key(0), (3, 4))
    rules = {"sltt": safjax.rules.sltt(), "ottt_a": safjax.rules.ottt_a()}
    return safjax.compare(net, x, loss=lambda o: jnp.mean((o - 1) ** 2), steps=4, rules=rules)


@pytest.mark.parametrize("reference", [None, "bptt(detach_reset=True)"])
def test_cosines_are_those_of_the_comparison(compared, reference, ax):
    plots.cosines(compared, ax, reference=reference)
    beside = reference or "bptt"
    paths = list(compared["sltt"].layers[beside])
    assert [text.get_text() for text in ax.get_xticklabels()] == [*paths, "all"] and len(paths) == 4
    for line, point, rule in zip(ax.lines[::2], ax.lines[1::2], ("sltt", "ottt_a"), strict=True):
        expected = [compared[rule].layers[beside][path].cosine for path in paths]
        np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_allclose(point.get_ydata(), [compared[rule].together[beside].cosine])
        assert line.get_label() == rule and point.get_label().startswith("_")
    assert min(compared["sltt"].layers["bptt"][path].cosine for path in paths) < 0.999


def test_cosines_of_many_nets_are_means_with_deviations(ax):
    many = np.array([[0.8, 0.6, 0.9], [1.0, 0.8, 0.9]])
    plots.cosines({"a": many, "b": many - 0.1}, ax, parts=["1", "2", "all"])
    (line, *_), (alone, *_) = ax.containers[0], ax.containers[1]
    np.testing.assert_allclose(line.get_ydata(), [0.9, 0.7])
    np.testing.assert_allclose(alone.get_ydata(), [0.9])
    ends = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([[y for _, y in ends[0]], [y for _, y in ends[1]]], [[0.8, 1.0], [0.6, 0.8]])


def test_cosines_over_updates_stand_at_their_numbers(ax):
    plots.cosines({"a": [0.5, 0.6], "b": [0.7, 0.8]}, ax, parts=[0, 50])
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0, 50], [0, 50]]


ONES = np.ones((T, N))


@pytest.mark.parametrize(
    ("draw", "error", "words"),
    [
        (lambda ax: plots.raster(np.ones((T, 1, N)), ax), ValueError, r"spikes must be \[T, N\].*shape \[7, 1, 3\]"),
        (lambda ax: plots.raster(np.ones((0, N)), ax), ValueError, r"spikes must be \[T, N\].*\[0, 3\]"),
        (lambda ax: plots.raster(np.array([["a"]]), ax), TypeError, "real numbers, but is of dtype <U1"),
        (lambda ax: plots.raster(ONES, ax, times=[1, 2]), ValueError, "times must be one for each of the 7 steps"),
        (lambda ax: plots.raster(ONES, ax, rows=[1, 2]), ValueError, "rows must be one for each of the 3 neurons"),
        (lambda ax: plots.raster(ONES, [ax]), TypeError, "ax must be the matplotlib Axes.*was a list"),
        (lambda ax: plots.membranes(ONES, ONES[1:], ax), ValueError, r"of one shape, but are \[7, 3\] and \[6, 3\]"),
        (lambda ax: plots.membranes(ONES, ONES, ax, threshold=[1, 2]), ValueError, r"threshold .*\[N\] = \[3\].*\[2\]"),
        (lambda ax: plots.membranes(ONES, ONES, ax, labels=["a"]), ValueError, "labels must be .*3 neurons.* are 1"),
        (lambda ax: plots.rates([0.1], ax), TypeError, "rates must be {layer: its rate}"),
        (lambda ax: plots.rates({"a": 1, "b": [1, 2]}, ax), ValueError, r"as many .*'a': \[\], 'b': \[2\]"),
        (lambda ax: plots.rates({"a": [1, 2]}, ax, over=[1]), ValueError, "'a' must be .* 1 moments, but there are 2"),
        (lambda ax: plots.rates({"a": [1, 2]}, ax, names=["x"]), ValueError, "names must be .* 2 nets, but .* are 1"),
        (lambda ax: plots.surrogates([1.0], ax), TypeError, "expected spike functions.*'1.0' is none"),
        (lambda ax: plots.surrogates(Sigmoid(), ax, x=ONES), ValueError, r"x must be distances.*\[7, 3\]"),
        (lambda ax: plots.cosines({}, ax), TypeError, "expected what safjax.compare returned"),
        (lambda ax: plots.cosines({"a": [1, 1]}, ax, parts=["1"]), ValueError, "'a' must be .* 1 parts, but .* are 2"),
        (lambda ax: plots.cosines({"a": [1]}, ax, reference="bptt"), ValueError, "reference is for what"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, error, words, ax):
    with pytest.raises(error, match=words):
        draw(ax)


def test_references_that_are_none_are_refused(compared, ax):
    with pytest.raises(ValueError, match=r"reference='exodus': expected one of bptt, bptt\(detach_reset=True\)"):
        plots.cosines(compared, ax, reference="exodus")


def test_without_axes_a_figure_with_a_legend_is_made():
    matplotlib.use("agg")
    from matplotlib import pyplot

    for draw, labels in [
        (lambda: plots.raster(ONES), None),
        (lambda: plots.membranes(ONES[:, :1], ONES[:, :1], labels=["a"]), ["a"]),
        (lambda: plots.rates({"lif1": [0.1, 0.2]}, names=["a", "b"]), ["a", "b"]),
        (lambda: plots.rates({"lif1": 0.1}), None),
        (lambda: plots.surrogates([Sigmoid()]), ["Sigmoid(alpha=4.0)"]),
        (lambda: plots.cosines({"a": [0.5, 0.6]}), ["a"]),
    ]:
        made = draw()
        assert made.figure.number in pyplot.get_fignums()
        legend = made.get_legend()
        assert labels == (None if legend is None else [text.get_text() for text in legend.get_texts()])
        made.figure.canvas.draw()
        if legend is not None:
            beside, whole = legend.get_window_extent(), made.figure.bbox
            assert made.get_window_extent().x1 <= beside.x0 < beside.x1 <= whole.x1, "the legend hides what is drawn"
        pyplot.close(made.figure)


def test_without_matplotlib_it_says_what_to_install():
    code = """
import sys
sys.modules["matplotlib"] = None
from safjax import plots
try: plots.raster([[1]])
except ModuleNotFoundError as error: print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout == (
        "safjax.plots draws with matplotlib, which is not installed: pip install 'safjax[plots]'.\n"
    ), result.stderr
