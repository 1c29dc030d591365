"""The floating-point operations of a step, counted in the program as JAX traces it.

The count is the same on every platform. XLA's own count is not: calls of libraries (cuDNN, cuBLAS,
oneDNN) count as nothing there.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def count(function: Callable, *arguments: Any) -> int:
    """FLOP of the matrix products and convolutions that a function computes, over all devices.

    A product and its sum are two operations. Products with padding count; those with the zeros
    that spread the rows of a strided convolution's gradient do not. Of several branches the
    largest counts; the body of a loop with an unknown number of steps counts once. What
    rematerialisation computes again counts again.

    Args:
      function: traced, not run; compiled functions too.
      *arguments: arrays or ShapeDtypeStructs.
    """
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(program):
    """FLOP of a jaxpr."""
    return sum(_equation(equation) for equation in program.eqns)


def _equation(equation):
    """FLOP of one equation with what is inside it."""
    name = equation.primitive.name
    if name == "dot_general":
        ((contracted, _), _) = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        return _convolution(equation)
    inner = [_of(part) for value in equation.params.values() for part in _programs(value)]
    if name == "cond":
        return max(inner)
    if name == "shard_map":
        return sum(inner) * equation.params["mesh"].size
    return sum(inner) * (equation.params["length"] if name == "scan" else 1)


def _convolution(equation):
    """FLOP of a convolution: each result is a sum over the window and the channels of its group."""
    kernel, axes = equation.invars[1].aval, equation.params["dimension_numbers"].rhs_spec
    products = kernel.size // kernel.shape[axes[0]]  # the kernel's channels are of one group
    results = equation.outvars[0].aval.size
    return 2 * results * products // math.prod(equation.params["lhs_dilation"])


def _programs(value) -> Iterator[Any]:
    """The jaxprs in a parameter of an equation."""
    if isinstance(value, core.ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, core.Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _programs(one)
