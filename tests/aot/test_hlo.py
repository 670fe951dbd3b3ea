"""Operations and bytes read from compiled programs: against what programs written by hand must have."""

import jax
import jax.numpy as jnp
import pytest

from safjax.aot.hlo import Array, arrays, bodies, parse
from safjax.aot.kernels import kernels

LOOP = """HloModule m

%body (state: (s32[], f32[8,4], f32[5,8,4])) -> (s32[], f32[8,4], f32[5,8,4]) {
  %state = (s32[], f32[8,4]{1,0}, f32[5,8,4]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[8,4]{1,0} get-tuple-element(%state), index=1
  %kept = f32[5,8,4]{2,1,0} get-tuple-element(%state), index=2
  %row = f32[1,8,4]{2,1,0} bitcast(%x)
  %stacked = f32[5,8,4]{2,1,0} fusion(%kept, %row, %i), kind=kLoop, calls=%stack
  %w = f32[4,4]{1,0} constant({...})
  %y = f32[8,4]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %copied = f32[8,4]{1,0} copy(%y)
  ROOT %out = (s32[], f32[8,4]{1,0}, f32[5,8,4]{2,1,0}) tuple(%i, %copied, %stacked)
}

%stack (p: f32[5,8,4], q: f32[1,8,4], r: s32[]) -> f32[5,8,4] {
  %p = f32[5,8,4]{2,1,0} parameter(0)
  %q = f32[1,8,4]{2,1,0} parameter(1)
  %r = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %u = f32[5,8,4]{2,1,0} dynamic-update-slice(%p, %q, %r, %zero, /*index=4*/%zero)
}

%condition (state.1: (s32[], f32[8,4], f32[5,8,4])) -> pred[] {
  %state.1 = (s32[], f32[8,4]{1,0}, f32[5,8,4]{2,1,0}) parameter(0)
  %j = s32[] get-tuple-element(%state.1), index=0
  %five = s32[] constant(5)
  ROOT %less = pred[] compare(%j, %five), direction=LT
}

ENTRY %main (a: (s32[], f32[8,4], f32[5,8,4])) -> (s32[], f32[8,4], f32[5,8,4]) {
  %a = (s32[], f32[8,4]{1,0}, f32[5,8,4]{2,1,0}) parameter(0)
  ROOT %while = (s32[], f32[8,4]{1,0}, /*index=2*/f32[5,8,4]{2,1,0}) while(%a), condition=%condition, body=%body
}
"""


def loop_kernels():
    module = parse(LOOP)
    [_, body] = bodies(module)
    return body, {kernel.operation.name: kernel for kernel in kernels(module, body.operations)}


def test_loops_are_counted_as_often_as_they_run():
    body, found = loop_kernels()
    assert (body.times, body.in_loop, body.at_most) == (5, True, False)
    assert set(found) == {"stacked", "y", "copied"}
    assert found["y"].operations == 2 * 8 * 4 * 4


def test_what_is_written_in_place_costs_a_slice():
    _, found = loop_kernels()
    # The row and its index are read, the row is written: not the whole stack.
    assert found["stacked"].bytes == 2 * 8 * 4 * 4 + 4
    assert found["copied"].bytes == 2 * 8 * 4 * 4
    assert found["y"].bytes == 2 * 8 * 4 * 4 + 4 * 4 * 4


def test_a_loop_that_may_end_sooner_is_said_to():
    text = LOOP.replace("compare(%j, %five), direction=LT", "and(%j, %five)")
    assert [body.at_most for body in bodies(parse(text))] == [False, True]


def test_the_compiler_says_how_often_a_loop_runs():
    text = LOOP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"3"}}')
    assert [body.times for body in bodies(parse(text))] == [1, 3]


def test_arrays_of_a_type():
    found = arrays("(f32[2,3]{1,0:T(8,128)S(1)}, /*index=1*/bf16[4]{0}, pred[], f8e4m3fn[5]{0}, s4[3]{0})")
    assert found[0] == Array("f32", (2, 3), True) and not found[1].on_chip
    assert [array.bytes for array in found] == [24, 8, 1, 5, 2]


CONVOLUTION = (
    "ENTRY %main (a: f32[2,9,9,3], b: f32[2,9,9,3]) -> f32[2,5,5,4] {{\n"
    "  %a = f32[{a}]{{3,2,1,0}} parameter(0)\n"
    "  %b = f32[{b}]{{3,2,1,0}} parameter(1)\n"
    "  ROOT %c = (f32[{c}]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%a, %b), window={{size=3x3 stride=2x2 pad=1_1x1_1}}, "
    'dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$conv{target}"\n}}\n'
)
IMAGE, KERNEL, OUT = "2,9,9,3", "4,3,3,3", "2,5,5,4"


@pytest.mark.parametrize(
    ("target", "a", "b", "c"),
    [
        ("Forward", IMAGE, KERNEL, OUT),
        ("BackwardInput", OUT, KERNEL, IMAGE),
        ("BackwardFilter", IMAGE, OUT, KERNEL),
    ],
)
def test_a_convolution_and_its_gradients_cost_the_same(target, a, b, c):
    """Of three taps an output, the first and the last of five have one in the padding: 13 along an axis."""
    module = parse(CONVOLUTION.format(a=a, b=b, c=c, target=target))
    [kernel] = kernels(module, module.computations["main"])
    assert kernel.operations == 2 * 13**2 * 2 * 3 * 4


def test_programs_of_this_machine_can_be_read():
    """A real program: T products in a scan, whatever the compiler makes of them."""

    def run(w, x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, 7)[0]

    shapes = jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((32, 64), jnp.float32)
    module = parse(jax.jit(run).lower(*shapes).compile().as_text())
    loops = [body for body in bodies(module) if body.in_loop]
    assert {body.times for body in loops} == {7} and not any(body.at_most for body in loops)
