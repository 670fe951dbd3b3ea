"""The convolution inside loops and under transformations, and what is computed and stored for its gradients."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from safjax.ops import conv_general_dilated
from tests.convolutions import SAME, assert_equal, in_scan, loss, normal


def in_cond_of_while(convolution):
    def gradient(x, w):
        def body(state):
            i, w = state
            return i + 1, w - 0.1 * jax.grad(partial(loss, convolution), 1)(x, w)

        return lax.while_loop(lambda state: state[0] < 3, body, (0, w))[1]

    return jax.jit(gradient)


PER_EXAMPLE = {
    "images": lambda f: lambda x, w: jax.vmap(lambda x: f(x[None], w))(x),
    "kernels": lambda f: lambda x, w: jax.vmap(lambda a: f(x, a * w))(jnp.arange(1.0, 4.0)),
    "both": lambda f: lambda x, w: jax.vmap(lambda x, a: f(x[None], a * w))(x, jnp.arange(1.0, 4.0)),
}


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(lambda c: jax.grad(partial(loss, c), (0, 1)), id="eager"),
        pytest.param(in_scan, id="scan"),
        pytest.param(in_cond_of_while, id="while"),
        pytest.param(lambda c: jax.jit(jax.grad(jax.checkpoint(partial(loss, c)), (0, 1))), id="checkpoint"),
        *(
            pytest.param(lambda c, f=f: jax.jit(f(jax.grad(partial(loss, c), (0, 1)))), id=f"vmap over {name}")
            for name, f in PER_EXAMPLE.items()
        ),
        pytest.param(lambda c: jax.jit(jax.jacrev(partial(c, **SAME))), id="jacrev"),
        pytest.param(lambda c: jax.jit(jax.jacrev(jax.grad(partial(loss, c), 1), (0, 1))), id="reverse over reverse"),
        pytest.param(lambda c: jax.jit(jax.jacfwd(jax.grad(partial(loss, c), 0), (0, 1))), id="forward over reverse"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_under_transformations(x64, transform, channels):
    x, w = normal(3, 4, 5, channels), normal(3, 3, channels, channels)
    assert_equal(transform(conv_general_dilated)(x, w), transform(lax.conv_general_dilated)(x, w))


@pytest.mark.parametrize("axes", ["auto", "explicit", "shard_map", "shard_map unchecked"])
def test_only_types_without_placement_are_covered(x64, axes):
    kind = jax.sharding.AxisType.Explicit if axes == "explicit" else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((1,), ("data",), axis_types=(kind,))
    x, w = normal(2, 4, 4, 2), normal(3, 3, 2, 2)

    def gradient(convolution):
        program = jax.grad(partial(loss, convolution))
        if axes in ("auto", "explicit"):
            return program
        specs = {"in_specs": (jax.P("data"), jax.P()), "out_specs": jax.P("data")}
        return jax.shard_map(program, mesh=mesh, check_vma=axes == "shard_map", **specs)

    with jax.set_mesh(mesh):
        x = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.P("data")))
        w = jax.device_put(w, jax.sharding.NamedSharding(mesh, jax.P()))
        ours, stock = map(gradient, (conv_general_dilated, lax.conv_general_dilated))
        assert ("platform_index" in str(jax.make_jaxpr(ours)(x, w))) == (axes in ("auto", "shard_map unchecked"))
        assert_equal(jax.jit(ours)(x, w), jax.jit(stock)(x, w))


def test_in_a_loop_on_cpu_every_convolution_is_channels_last():
    x, w = normal(2, 6, 6, 3, dtype=jnp.float32), normal(3, 3, 3, 3, dtype=jnp.float32)
    text = in_scan(conv_general_dilated).lower(x, w).compile().as_text()
    labels = set(re.findall(r"convolution\(.*dim_labels=(\S+?),", text))
    assert labels == {"b01f_01io->b01f", "b0f_0io->b0f"}


@pytest.mark.parametrize("wanted", [0, 1, (0, 1)])
def test_an_unwanted_gradient_is_not_computed(wanted):
    x, w = normal(2, 6, 6, 16), normal(3, 3, 16, 4)
    program = jax.jit(jax.grad(partial(loss, conv_general_dilated), wanted)).lower(x, w).compile()
    assert len(re.findall(r" convolution\(", program.as_text())) == 1 + np.size(wanted)


def test_inputs_are_not_stored_for_an_unwanted_weight_gradient():
    x, w, steps = normal(2, 6, 6, 3), normal(3, 3, 3, 3), 100

    def total(x):
        return lax.scan(lambda x, _: (conv_general_dilated(x, w, **SAME), None), x, length=steps)[0].sum()

    program = jax.jit(jax.grad(total)).lower(x).compile()
    assert program.memory_analysis().temp_size_in_bytes < steps * x.nbytes / 2


def test_forward_mode_is_refused():
    x, w = normal(1, 4, 4, 1), normal(3, 3, 1, 1)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(partial(loss, conv_general_dilated), (x, w), (x, w))
