"""How JAX's convolutions, max-pooling and sums become CPU programs.

JAX takes a rule per platform for each of its operations. `install` gives it rules for CPUs:
every net gains, whoever wrote it, and so do its gradients of any order, inside `scan`,
`cond` and `vmap` too. Values are XLA's to 1e-6 of the largest. What a rule does not know
(of convolutions: other types than float32, other dimensions than two, several devices in a
program, exports; of sums: integers) stays with JAX's own rule, and so does everything with
another release of jaxlib than those of `RELEASES`.
"""

import functools
import logging
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import jaxlib
import numpy as np
from jax import lax
from jax.extend.mlir.dialects import stablehlo as hlo
from jax.interpreters import mlir

from launch.config.errors import UserError
from launch.cpu import convolutions, onednn, reductions
from launch.cpu.convolutions import Window

logger = logging.getLogger("segen")

# The releases, (major, minor), whose private names and calls of oneDNN were tried.
RELEASES = {(0, 10), (0, 11), (0, 12)}
# Layers of fewer floating-point operations are left to XLA: each would gain 0.1 ms at most (two
# cores, `python -m launch.benchmarks.cpu`), and a program of such layers alone stays in JAX's
# compilation cache.
LEAST_FLOP = 2e6
# Channels of an image below which the gradient by its kernel is left to XLA: the copies of the
# image, of 4 to 28 bytes at a time, would take longer than the products.
LEAST_CHANNELS = 8
# Programs with calls of oneDNN that a process keeps, the newest: a plan's is the training's.
NEWEST = 2
_newest = {}  # {key of the compilation cache: (program, seconds to compile it)}


def install() -> bool:
    """Replaces the rules for CPUs; call before anything is compiled. Again is no error.

    The environment variable SEGEN_CPU_RULES=xla leaves JAX's own rules in place.

    Returns:
      Whether the rules are in place.

    Raises:
      UserError: SEGEN_CPU_RULES has another value.
    """
    choice = os.environ.get("SEGEN_CPU_RULES", "")
    if choice not in ("", "xla"):
        raise UserError(f"SEGEN_CPU_RULES={choice}: give xla, or leave it out")
    own = None if choice else _rules_of_jax()
    if own is None:
        return False
    own.cache.put_executable_and_time = functools.partial(_keep, own.keep)
    own.cache.get_executable_and_time = functools.partial(_find, own.find)
    for primitive, (rule, ours) in own.rules.items():
        mlir.register_lowering(primitive, functools.partial(ours, rule), platform="cpu")
    return True


def remove() -> None:
    """Puts JAX's own rules back, for what is lowered from now on."""
    own = _rules_of_jax()
    if own is None:
        return
    for primitive, (rule, _) in own.rules.items():
        mlir.register_lowering(primitive, rule, platform="cpu")


class _Own(NamedTuple):
    """What is replaced of JAX; its names are private.

    Attributes:
      rules: {primitive: (JAX's own rule, ours)}.
      cache: the module of the compilation cache.
      keep: its function that writes a program.
      find: its function that reads one.
    """

    rules: dict[Any, tuple[Callable, Callable]]
    cache: Any
    keep: Callable
    find: Callable


@functools.cache
def _rules_of_jax():
    """JAX's own rules; None, with one line of log, where they may not be what they were."""
    release = tuple(int(part) for part in jaxlib.__version__.split(".")[:2])
    if release not in RELEASES:
        logger.warning(
            f"CPUs compute by JAX's own rules: jaxlib {jaxlib.__version__} was not tried with ours"
        )
        return None
    try:
        from jax._src import compilation_cache
        from jax._src.lax import convolution
        from jax._src.lax import lax as operations
        from jax._src.lax import windowed_reductions as windowed

        own_convolution = functools.partial(
            convolution._conv_general_dilated_lower, expand_complex_convolutions=True
        )
        own_pool = functools.partial(windowed._select_and_scatter_add_impl, expand_padding=True)
        own_sum = functools.partial(
            operations._unary_reduce_lower, hlo.AddOp, operations._get_sum_identity
        )
        rules = {
            lax.conv_general_dilated_p: (own_convolution, _convolution),
            lax.reduce_sum_p: (own_sum, _sum),
            windowed.select_and_scatter_add_p: (
                mlir.lower_fun(own_pool, multiple_results=False),
                _pool_gradient,
            ),
        }
        files = compilation_cache.put_executable_and_time, compilation_cache.get_executable_and_time
        return _Own(rules, compilation_cache, *files)
    except (ImportError, AttributeError) as error:
        logger.warning(f"CPUs compute by JAX's own rules, which moved: {error}")
        return None


def _keep(own, key, name, executable, backend, *rest):
    """Writes a program to the compilation cache; one with a call of oneDNN is kept in memory.

    XLA knows no form of such a call for files: it reads memory that is not its own, and the
    process ends (jaxlib 0.12) or Python gets an error (0.10).
    """
    modules = executable.hlo_modules() if backend.platform == "cpu" else ()
    if any(b"__onednn$" in one.as_serialized_hlo_module_proto() for one in modules):
        _newest[key] = executable, rest[-1]
        while len(_newest) > NEWEST:
            _newest.pop(next(iter(_newest)))
    else:
        own(key, name, executable, backend, *rest)


def _find(own, key, *rest):
    """Reads a program from memory, or from the compilation cache."""
    return _newest.get(key) or own(key, *rest)


def _convolution(own, ctx, lhs, rhs, **parameters):
    """The rule for `conv_general_dilated`."""
    image, kernel, result = _orders(parameters["dimension_numbers"])
    function = _choose(ctx, parameters, image, kernel, result)
    if function is None:
        return own(ctx, lhs, rhs, **parameters)
    back = tuple(int(n) for n in np.argsort(result))
    run = lambda x, k: function(x.transpose(image), k.transpose(kernel)).transpose(back)
    return mlir.lower_fun(run, multiple_results=False)(ctx, lhs, rhs)


def _orders(numbers):
    """Where the dimensions B, H, W, C of image and result lie, and KH, KW, C, D of the kernel."""
    image = lambda spec: (spec[0], *spec[2:], spec[1])
    outputs, inputs, *taps = numbers.rhs_spec
    return image(numbers.lhs_spec), (*taps, inputs, outputs), image(numbers.out_spec)


def _choose(ctx, parameters, *orders):
    """A function (x [B, H, W, C], kernel [KH, KW, C, D]) -> [B, H', W', D]; None: JAX's own."""
    if not _is_known(ctx, parameters):
        return None
    arrays = (*ctx.avals_in, *ctx.avals_out)
    image, kernel, result = (
        tuple(array.shape[n] for n in order) for array, order in zip(arrays, orders, strict=True)
    )
    window = Window(
        tuple(parameters["window_strides"]),
        tuple(tuple(pair) for pair in parameters["padding"]),
        tuple(parameters["lhs_dilation"]),
        tuple(parameters["rhs_dilation"]),
    )
    groups, one = parameters["feature_group_count"], (1, 1)
    flop = 2 * math.prod(result) * math.prod(kernel[:3])
    flop //= math.prod(window.spread)  # the rest are products with zeros
    fast = onednn.available() and flop >= LEAST_FLOP
    if (channels := parameters["batch_group_count"]) > 1:
        depthwise = image[0] == result[3] == kernel[3] == channels and window.spread == one
        return _depthwise_gradient(window, result[1:3], fast) if depthwise else None
    gradient = 4 * result[1] * result[2] <= kernel[0] * kernel[1]
    if gradient and image[0] < LEAST_CHANNELS and window.spread == one:
        fast = False
    if window.spread != one and window.dilation == one and window.strides == one:
        if gradient and fast and groups == 1:
            return _gradient(window, result[1:3])
        if not gradient:
            return lambda x, k: convolutions.transposed(x, k, window, result, groups)
    if window.spread == one:
        if gradient and fast and groups == 1:
            return _gradient(window, result[1:3])
        if not gradient and fast:
            return lambda x, k: convolutions.convolve(x, k, window, groups)
    negative = min(map(min, window.padding)) < 0
    if all(order == tuple(range(4)) for order in orders) and not negative:
        return None
    # Inside loops XLA is fast only where the dimensions are in its own order; and where a
    # padding is negative it reads beside the image.
    return lambda x, k: convolutions.by_xla(x, k, window, groups)


def _gradient(window, taps):
    """The gradient by a kernel; JAX writes it with channels as batch and batch as channels."""

    def run(x, slope):
        x, slope = x.transpose(3, 1, 2, 0), slope.transpose(2, 0, 1, 3)
        return convolutions.kernel_gradient(x, slope, window, taps).transpose(2, 0, 1, 3)

    return run


def _depthwise_gradient(window, taps, fast):
    """The gradient by a depthwise kernel, which JAX writes as `_gradient`, in groups of batch."""

    by_onednn, by_xla = convolutions.depthwise_gradient, convolutions.depthwise_gradient_by_xla

    def run(x, slope):
        x, slope = x.transpose(3, 1, 2, 0), slope.transpose(2, 0, 1, 3)
        gradient = by_onednn if fast else by_xla
        return gradient(x, slope, window, taps)[None]

    return run


def _is_known(ctx, parameters):
    """Whether the rules know a convolution: of float32 images, in a program of one device."""
    module, arrays = ctx.module_context, (*ctx.avals_in, *ctx.avals_out)
    one_device = getattr(module.axis_context, "num_devices", 0) == 1
    exported = module.lowering_parameters.for_export or len(module.platforms) > 1
    return (
        one_device  # partitioning and exports know no calls of oneDNN
        and not exported
        and all(array.dtype == np.float32 and array.ndim == 4 for array in arrays)
        and all(array.size for array in arrays)
    )


def _sum(own, ctx, operand, *, axes, **parameters):
    """The rule for `reduce_sum`."""
    (array,) = ctx.avals_in
    inner = reductions.inner_axes(array.shape, axes)
    placed = any(parameters.values())  # a sharding that the program asks for
    if not inner or placed or not jnp.issubdtype(array.dtype, jnp.floating):
        return own(ctx, operand, axes=axes, **parameters)
    run = functools.partial(reductions.sum_in_two, axes=axes, inner=inner)
    return mlir.lower_fun(run, multiple_results=False)(ctx, operand)


def _pool_gradient(own, ctx, source, operand, **parameters):
    """The rule for the gradient of max-pooling."""
    _, array = ctx.avals_in
    if parameters["select_prim"] is not lax.ge_p or not reductions.are_tiles(
        array.shape,
        parameters["window_dimensions"],
        parameters["window_strides"],
        parameters["padding"],
    ):
        return own(ctx, source, operand, **parameters)
    sizes = tuple(parameters["window_dimensions"][1:3])
    run = functools.partial(reductions.pool_gradient, sizes=sizes)
    return mlir.lower_fun(run, multiple_results=False)(ctx, source, operand)
