"""What is refused when a rule meets a net, and with which words."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import IF, LIF, Dropout, InstantReadout, LeakyReadout, Synapse


class Net(nnx.Module):
    """x[B, 4] through given layers; each under its name."""

    def __init__(self, **layers):
        self.names = tuple(layers)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x):
        for name in self.names:
            x = getattr(self, name)(x)
        return x


def linear(n_in=4, n_out=4):
    return nnx.Linear(n_in, n_out, rngs=nnx.Rngs(0))


def good(**changes):
    layers = {
        "first": Synapse(linear()),
        "lif": LIF(),
        "last": Synapse(linear()),
        "readout": LeakyReadout(),
    }
    return Net(**{**layers, **changes})


def loss(output):
    return jnp.mean(output**2)


def bind(net, rule, steps=2, x=None):
    """The gradient on shapes alone."""
    x = jnp.ones((2, 4)) if x is None else x
    jax.eval_shape(lambda x: safjax.value_and_grad(loss, rule, steps)(nnx.clone(net), x)[1], x)


ACCUMULATING = ["saf_f", "saf_e", "ottt_a", "ottt_o", "spike_representation"]


@pytest.mark.parametrize("name", rules.RULES)
def test_a_good_net_passes(name):
    bind(good(), rules.RULES[name]())


@pytest.mark.parametrize("name", ACCUMULATING)
@pytest.mark.parametrize("bad", [nnx.relu, lambda x: x * x], ids=["relu", "square"])
def test_accumulating_rules_refuse_a_nonlinear_synapse(name, bad):
    net = good(last=Synapse(nnx.Sequential(linear(), bad)))
    with pytest.raises(ValueError, match=rf"'{name}'.*Synapse at 'last'.*affine"):
        bind(net, rules.RULES[name]())


def test_max_pooling_is_refused_by_its_name():
    pool = Synapse(lambda x: nnx.max_pool(x, (2, 2), (2, 2)))
    conv = Synapse(nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)))
    net = Net(conv=conv, lif=LIF(), pool=pool, readout=LeakyReadout())
    with pytest.raises(ValueError, match="'pool'.*max pooling.*average pooling instead"):
        bind(net, rules.saf_f(), x=jnp.ones((2, 4, 4, 1)))
    safjax.value_and_grad(loss, rules.bptt(), 2)(net, jnp.ones((2, 4, 4, 1)))


@pytest.mark.parametrize("name", ACCUMULATING)
def test_accumulating_rules_refuse_two_decays(name):
    net = good(lif=Net(a=LIF(0.5), between=Synapse(linear()), b=LIF(0.9)), readout=LeakyReadout(0.5))
    with pytest.raises(ValueError, match="one decay.*'lif.a' 0.5, 'lif.b' 0.9"):
        bind(net, rules.RULES[name]())


@pytest.mark.usefixtures("advice")
def test_rules_that_are_advised_train_the_net():
    nonlinear = good(last=Synapse(nnx.Sequential(linear(), nnx.relu)))
    decays = good(lif=Net(a=LIF(0.5), between=Synapse(linear()), b=LIF(0.9)), readout=LeakyReadout(0.5))
    for net, means in ((nonlinear, ""), (decays, "rate_backprop, ")):
        advised = rf"as it is: (\w+, )*bptt, exodus, slayer, sltt, (\w+, )*{means}(\w+, )*bptt\(layerwise=True\)"
        with pytest.raises(ValueError, match=advised):
            bind(net, rules.saf_e())
        bind(net, rules.bptt())
        bind(net, rules.sltt())


def test_a_readout_without_decay_needs_one_among_the_neurons():
    net = good(lif=Net(a=LIF(0.5), between=Synapse(linear()), b=IF()))
    with pytest.raises(ValueError, match=r"'readout'.*LeakyReadout\(decay=...\)"):
        bind(net, rules.bptt())


def test_a_stateful_synapse_is_refused_where_the_map_must_not_change():
    net = good(last=Synapse(nnx.Sequential(linear(), nnx.Dropout(0.5, rngs=nnx.Rngs(0)))))
    with pytest.raises(ValueError, match=r"'last'.*changes its own state.*safjax.nn.Dropout"):
        bind(net, rules.saf_f())
    bind(net, rules.bptt())


def test_a_bare_operation_on_a_message_is_refused():
    with pytest.raises(TypeError, match=r"mean over time.*no plain array.*safjax.nn.Synapse"):
        bind(good(lif=Net(lif=LIF(), bare=jnp.tanh)), rules.saf_f())
    with pytest.raises(TypeError, match=r"no plain array.*safjax.nn.Synapse"):
        bind(good(lif=Net(lif=LIF(), bare=lambda x: x.reshape(2, 4))), rules.ottt_a())


def test_a_neuron_inside_a_synapse_is_refused():
    with pytest.raises(ValueError, match="Synapse at 'last' holds a LIF"):
        bind(good(last=Synapse(nnx.Sequential(linear(), LIF()))), rules.bptt())


@pytest.mark.parametrize("name", rules.RULES)
def test_a_neuron_used_twice_is_refused(name):
    lif = LIF()
    with pytest.raises(ValueError, match="LIF at 'lif.a' is called twice"):
        bind(good(lif=Net(a=lif, between=Synapse(linear()), b=lif)), rules.RULES[name]())


@pytest.mark.parametrize("name", ACCUMULATING)
def test_a_net_must_end_in_a_readout(name):
    with pytest.raises(ValueError, match=r"LeakyReadout\(\) or InstantReadout\(\)"):
        bind(good(readout=LIF()), rules.RULES[name]())


def test_a_net_without_spiking_layers_is_refused():
    with pytest.raises(ValueError, match="holds no spiking layer"):
        bind(linear(), rules.bptt())


def test_a_layer_called_outside_a_rule_says_how_to_run_it():
    with pytest.raises(RuntimeError, match=r"safjax\.predict"):
        LIF()(jnp.ones(3))


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "6"])
def test_bad_steps(steps):
    for make in (safjax.value_and_grad, lambda *a: safjax.train_step(a[0], a[1], optax.sgd(0.1), a[2])):
        with pytest.raises(ValueError, match="steps=.*whole number ≥ 1"):
            make(loss, rules.bptt(), steps)
    with pytest.raises(ValueError, match="whole number ≥ 1"):
        safjax.predict(good(), jnp.ones((2, 4)), steps)


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"safjax.rules.Rule.*Write saf_f\(\)"):
        safjax.value_and_grad(loss, rules.saf_f, 3)
    with pytest.raises(TypeError, match="loss must be a function"):
        safjax.value_and_grad(3.0, rules.saf_f(), 3)
    with pytest.raises(TypeError, match="flax.nnx.Module.*given a dict"):
        safjax.value_and_grad(loss, rules.saf_f(), 3)({}, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="time-major sequence"):
        safjax.predict(good(), jnp.ones((0, 2, 4)))
    with pytest.raises(ValueError, match="at most 2"):
        safjax.value_and_grad(loss, rules.sltt(sampled=3), 2)(good(), jnp.ones((2, 4)), key=jax.random.key(0))
    with pytest.raises(ValueError, match="key=jax.random.key"):
        bind(good(), rules.sltt(sampled=1))


@pytest.mark.parametrize("decay", [-0.1, 1.1, "0.5", None, True])
def test_bad_decay(decay):
    with pytest.raises(ValueError, match=r"decay=.*\[0, 1\]"):
        LIF(decay)


@pytest.mark.parametrize("threshold", [0, -1.0, "1", None])
def test_bad_threshold(threshold):
    for neuron in (LIF, IF):
        with pytest.raises(ValueError, match="threshold.*positive"):
            neuron(threshold=threshold)


def test_other_bad_layers():
    with pytest.raises(TypeError, match="surrogate"):
        LIF(surrogate="sigmoid")
    with pytest.raises(TypeError, match=r"Synapse\(...\): expected a layer"):
        Synapse(3)
    with pytest.raises(ValueError, match=r"rate=1"):
        Dropout(1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="sampled=0"):
        rules.sltt(sampled=0)
    with pytest.raises(ValueError, match="alpha=0"):
        safjax.surrogate.Sigmoid(alpha=0)


def test_messages_add_and_scale_but_nothing_else():
    class Stream(nnx.Module):
        def __init__(self, combine):
            self.a, self.b, self.lif, self.readout = Synapse(linear()), Synapse(linear()), LIF(), InstantReadout()
            self.combine = combine

        def __call__(self, x):
            return self.readout(self.lif(self.combine(self.a(x), self.b(x))))

    for name in ACCUMULATING:
        bind(Stream(lambda a, b: (2 * a - b / 3 + -b) * 0.5), rules.RULES[name]())
        for bad in (lambda a, b: a + 1.0, lambda a, b: a * jnp.ones(4), lambda a, b: a[0], lambda a, b: a - 1.0):
            with pytest.raises(TypeError, match="Synapse"):
                bind(Stream(bad), rules.RULES[name]())
