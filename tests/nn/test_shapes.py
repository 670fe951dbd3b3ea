"""Mistakes about axes: what was given, how it was read, what a layer wants, and the cure. No compilation is needed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import losses, rules
from safjax.nn import LIF, LeakyReadout, Recurrent, Synapse, WSConv
from safjax.ops import avg_pool, global_avg_pool

T, B = 6, 5
STEPWISE, ACCUMULATING, LAYERWISE = rules.bptt(), rules.saf_f(), rules.exodus()
RULES = [STEPWISE, rules.sltt(), ACCUMULATING, rules.ottt_o(), LAYERWISE]

RNGS = nnx.Rngs(0)


def net(*layers, width=8, recurrent=False):
    """The layers, a neuron, and a dense readout of 3 classes."""
    lif = Recurrent(LIF(), Synapse(nnx.Linear(width, width, rngs=RNGS))) if recurrent else LIF()
    first, last = (layer if len(layer) > 1 else layer[0] for layer in (layers, (nnx.Linear(width, 3, rngs=RNGS),)))
    if any(isinstance(layer, nnx.Conv | WSConv) for layer in layers):
        last = nnx.Sequential(global_avg_pool, last)
    synapse = Synapse(nnx.Sequential(*first) if isinstance(first, tuple) else first)
    return nnx.Sequential(synapse, lif, Synapse(last), LeakyReadout(0.5))


def flat(x):
    return x.reshape(len(x), -1)


CONV = net(nnx.Conv(2, 8, (3, 3), rngs=RNGS))
STANDARDISED = net(WSConv(2, 8, (3, 3), rngs=RNGS))
POOLED = net(lambda x: avg_pool(x, (2, 2)), nnx.Conv(2, 8, (3, 3), rngs=RNGS))
SOUND = net(nnx.Conv(7, 8, (3,), rngs=RNGS))
DENSE = net(nnx.Linear(70, 8, rngs=RNGS))
RECURRENT = net(nnx.Linear(70, 8, rngs=RNGS), recurrent=True)
FLAT = net(flat, nnx.Linear(49, 8, rngs=RNGS))

CONV_WANTS = r"Conv at 'layers.0.layer.*' wants \[B, H, W, 2\], but was given "
DENSE_WANTS = r"Linear at 'layers.0.layer.*' wants \[B, ..., {}\], but was given "
NO_TIME = r"without steps was read as .* x\[T, B, ...\], T = 5, .* An axis of time is missing\..* give steps=T"
NO_STEPS = r"with steps=6 was read as a static image .* x looks like a time-major sequence .* leave steps out"

IN_THE_NET = {
    "image without steps": (
        CONV,
        (B, 8, 8, 2),
        None,
        CONV_WANTS + r"\[8, 8, 2\]\. x of shape \[5, 8, 8, 2\] " + NO_TIME,
    ),
    "the same, standardised": (STANDARDISED, (B, 8, 8, 2), None, CONV_WANTS + r"\[8, 8, 2\]\. .*" + NO_TIME),
    "the same, pooled": (POOLED, (B, 8, 8, 2), None, CONV_WANTS + r"\[\d+, 4, 2\]\. .*" + NO_TIME),
    "sound without steps": (
        SOUND,
        (B, 9, 7),
        None,
        r"Conv at .* wants \[B, L, 7\], but was given \[9, 7\].*" + NO_TIME,
    ),
    "numbers without steps": (DENSE, (B, 70), None, DENSE_WANTS.format(70) + r"\[70\]\. .*" + NO_TIME),
    "recurrent without steps": (RECURRENT, (B, 70), None, DENSE_WANTS.format(70) + r"\[70\]\. .*" + NO_TIME),
    "flattened without steps": (FLAT, (B, 7, 7), None, DENSE_WANTS.format(49) + ".*" + NO_TIME),
    "video with steps": (CONV, (T, B, 8, 8, 2), T, CONV_WANTS + r"\[6, 5, 8, 8, 2\].*" + NO_STEPS),
    "the same, standardised, with steps": (STANDARDISED, (T, B, 8, 8, 2), T, CONV_WANTS + ".*" + NO_STEPS),
    "flattened video with steps": (FLAT, (T, B, 7, 7), T, DENSE_WANTS.format(49) + r"\[6, 245\].*" + NO_STEPS),
    "one image": (CONV, (8, 8, 2), T, CONV_WANTS + r"\[8, 8, 2\].* The axis of batch is missing: x\[None\]"),
    "grey images": (CONV, (B, 8, 8), T, CONV_WANTS + r"\[5, 8, 8\].* channels last: of grey ones make x\[..., None\]"),
    "channels first": (
        CONV,
        (B, 2, 8, 8),
        T,
        CONV_WANTS + r".* width 2 was found on axis 1 .*jnp.moveaxis\(x, 1, -1\)",
    ),
    "time last": (
        DENSE,
        (B, 70, T),
        None,
        DENSE_WANTS.format(70) + r"\[\d+, 6\].* width 70 was found on axis 1 .* time first.*jnp.moveaxis\(x, -1, 0\)",
    ),
    "not flattened": (
        DENSE,
        (B, 7, 10),
        T,
        DENSE_WANTS.format(70) + r"\[5, 7, 10\].* Flatten .*reshape\(x.shape\[0\], -1\)",
    ),
    "other width": (DENSE, (T, B, 69), None, DENSE_WANTS.format(70) + r".*one step of shape \[5, 69\]\.(\n|$)"),
}

BY_LABELS = {
    "batch-first events": (DENSE, (B, T, 70), None),
    "batch-first video": (CONV, (B, T, 8, 8, 2), None),
    "batch-first, recurrent": (RECURRENT, (B, T, 70), None),
    "events with steps": (DENSE, (T, B, 70), T),
    "recurrent, with steps": (RECURRENT, (T, B, 70), T),
}


def mean(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def one_hot(output, targets):
    return jnp.mean((output - targets) ** 2)


def tried(net, x, *targets, rule=STEPWISE, steps=None, loss=mean):
    return jax.eval_shape(lambda: safjax.value_and_grad(loss, rule, steps, outputs="all")(net, x, *targets))


def skip_untrainable(net, rule):
    if net is RECURRENT and rule.propagation.whole_sequence:
        pytest.skip("the rule takes no recurrent nets")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("case", IN_THE_NET)
def test_layers_tell_what_they_want(case, rule):
    net, shape, steps, message = IN_THE_NET[case]
    skip_untrainable(net, rule)
    with pytest.raises(ValueError, match=message):
        tried(net, jnp.zeros(shape), jnp.zeros(B, int), rule=rule, steps=steps)


@pytest.mark.parametrize("case", IN_THE_NET)
def test_so_they_do_at_inference_and_in_training_steps(case):
    net, shape, steps, message = IN_THE_NET[case]
    step = safjax.train_step(mean, ACCUMULATING, optax.sgd(0.1), steps, outputs="all")
    for use in (
        lambda: safjax.predict(net, np.zeros(shape), steps),
        lambda: safjax.simulate(net, jnp.zeros(shape), steps),
        lambda: step(net, step.init(net), jnp.zeros(shape), jnp.zeros(B, int)),
    ):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("case", BY_LABELS)
def test_as_many_labels_as_another_axis_is_long(case, rule):
    net, shape, steps = BY_LABELS[case]
    cure = r"leave steps out" if steps else r"Is x batch-first, .* jnp.swapaxes\(x, 0, 1\)"
    message = rf"There are 5 labels, as many as axis {1 if steps else 0} of x is long.* was read as .*T = [56].*{cure}"
    skip_untrainable(net, rule)
    with pytest.raises(ValueError, match=message):
        tried(net, jnp.zeros(shape), jnp.zeros(B, int), rule=rule, steps=steps)


@pytest.mark.parametrize("rule", [STEPWISE, ACCUMULATING, LAYERWISE], ids=lambda rule: rule.name)
def test_a_loss_that_fails_on_swapped_axes(rule):
    shapes = r"a step's output of shape \[6, 3\] and a target of shape \[5, 3\]"
    with pytest.raises(ValueError, match=rf"{shapes}.*T = 5, B = 6.*jnp.swapaxes\(x, 0, 1\).*The loss itself said"):
        tried(DENSE, jnp.zeros((B, T, 70)), jnp.zeros((B, 3)), rule=rule, loss=one_hot)
    with pytest.raises(ValueError, match=rf"{shapes}.*with steps=6.*leave steps out"):
        tried(CONV, jnp.zeros((T, B, 8, 8, 2))[:, :, None], jnp.zeros((B, 3)), rule=rule, steps=6, loss=one_hot)


def test_targets_of_every_step_and_lists():
    x = jnp.zeros((T, B, 70))
    with pytest.raises(ValueError, match=r"target of shape \[6, 5\].* changes in time.* safjax.losses.Timed\(y\)"):
        tried(DENSE, x, jnp.zeros((T, B), int))
    with pytest.raises(ValueError, match=r"list of numbers.*jnp.asarray\(target\)"):
        tried(DENSE, x, [0, 1, 2, 3, 4])
    with pytest.raises(TypeError, match="tuple"):  # A pytree of targets, and an error of the loss's own.
        tried(DENSE, x, (jnp.zeros(B, int), jnp.zeros(B)), loss=lambda o, both: o + both)
    with pytest.raises(ValueError, match=r"a step's output of shape \[6, 3\].*jnp.swapaxes"):
        tried(DENSE, x.swapaxes(0, 1), jnp.zeros(B, int), loss=losses.max_over_time(mean))


LABELS = {
    "one-hot": (jnp.zeros((B, 3)), r"float32\[5, 3\]\. .*optax.softmax_cross_entropy; .*labels.argmax\(-1\)"),
    "one-hot whole numbers": (jnp.zeros((B, 3), int), r"int32\[5, 3\]\. .*labels.argmax\(-1\)"),
    "a column": (jnp.zeros((B, 1), int), r"int32\[5, 1\]\. Labels have no axis .*labels\[..., 0\]"),
    "no whole numbers": (jnp.zeros(B), r"float32\[5\]\. Labels of classes .*labels.astype\(int\)"),
    "one for all": (jnp.zeros(1, int), r"one label for a batch of 5.*jnp.broadcast_to\(labels, 5\)"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_another_form(case):
    labels, message = LABELS[case]
    with pytest.raises(ValueError, match=message):
        tried(DENSE, jnp.zeros((T, B, 70)), labels)


def test_time_behind_the_batch_with_steps():
    with pytest.raises(ValueError, match=r"output of shape \[5, 7, 3\].*leave them out, jnp.swapaxes\(x, 0, 1\)"):
        tried(DENSE, jnp.zeros((B, 7, 70)), jnp.zeros(B, int), steps=T)


def test_an_error_of_the_loss_says_what_it_was_given():
    with pytest.raises(TypeError, match="labels") as error:
        tried(DENSE, jnp.zeros((T, B, 70)))
    assert any("float32[5, 3]." in note for note in error.value.__notes__)


def test_a_stream_of_wrong_axes():
    for x, message in (
        (
            jnp.zeros((T, B, 8, 8, 2)),
            r"\[6, 5, 8, 8, 2\] was read as one time step.* one step at a time: give it x\[t\]",
        ),
        (jnp.zeros((8, 8, 2)), r"was read as one time step.* axis of batch is missing: x\[None\]"),
    ):
        with pytest.raises(ValueError, match=message):
            safjax.stream(STANDARDISED).start(x)
    with pytest.raises(TypeError, match=r"x must be an array .*jnp.asarray\(x\)"):
        safjax.stream(DENSE).start([0.0] * 70)


class Foreign:
    """An array of another library."""

    ndim, shape, dtype = 2, (B, 70), "float32"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (Foreign(), r"holds a Foreign.*x.numpy\(\)"),
        (np.array([[0.0], [0.0, 1.0]], object), "dtype object.* fill them up to one length"),
        (np.array([["a"]]), "must hold numbers.*dtype <U1"),
    ],
)
def test_arrays_of_something_else(x, message):
    with pytest.raises(TypeError, match=message):
        safjax.predict(DENSE, x, 2)


class Failing(nnx.Module):
    """A dense layer, and then an error of somebody else."""

    def __init__(self, error):
        self.net, self.error = DENSE, error

    def __call__(self, x):
        self.net(x)
        raise self.error


@pytest.mark.parametrize("error", [ValueError("mine"), TypeError("mine"), IndexError("mine")])
def test_errors_of_others_stay_what_they_are(error):
    """Neither in a net nor in a loss whose arrays go together."""

    def loss(output, labels):
        raise error

    with pytest.raises(type(error), match=r"^mine(\n|$)"):
        tried(Failing(error), jnp.zeros((T, B, 70)), jnp.zeros(B, int))
    with pytest.raises(type(error), match=r"^mine(\n|$)"):
        tried(DENSE, jnp.zeros((T, B, 70)), jnp.zeros(B, int), loss=loss)


def test_what_shapes_cannot_tell_is_taken():
    """Views beside the batch, tokens, numbers without features, layers mapped over the batch, as many steps as that."""
    labels = jnp.zeros(B, int)
    assert safjax.predict(CONV, jnp.zeros((B, 4, 8, 8, 2)), 2).shape == (2, B, 3)
    assert tried(DENSE, jnp.zeros((T, B, 4, 70)), jnp.zeros((B, 4), int))[0][1].outputs.shape == (T, B, 4, 3)
    for rule in (STEPWISE, ACCUMULATING, LAYERWISE):
        tried(DENSE, jnp.zeros((B, B, 70)), labels, rule=rule)
        tried(net(lambda x: x[:, None], nnx.Linear(1, 8, rngs=RNGS)), jnp.zeros((T, B)), labels, rule=rule)
        mapped = net(Mapped(nnx.Conv(2, 8, (3, 3), rngs=RNGS)))
        tried(nnx.Sequential(*mapped.layers[:2], Synapse(lambda x: x.mean((1, 2))), mapped.layers[3]),
              jnp.zeros((T, B, 8, 8, 2)), labels, rule=rule)  # fmt: skip
    # A target of the whole net that has nothing to do with examples.
    tried(DENSE, jnp.zeros((T, B, 70)), jnp.ones(3), loss=lambda o, w: jnp.mean(w * o))


class Mapped(nnx.Module):
    """A layer that sees one example at a time."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return jax.vmap(self.layer)(x)
