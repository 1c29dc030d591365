"""Encoders with random variables, computed without compiling their initialisation."""

import math
from functools import partial

import jax
import numpy as np
from flax import traverse_util


def picture(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def shapes_of(net, shape=(1, 32, 32, 3)):
    """{"params/stem/kernel": what the variable is like} of a net for images of a shape."""
    return traverse_util.flatten_dict(_traced(net, shape)[1], sep="/")


def sizes_of(net, shape):
    """The shape of each map of images of a shape."""
    return [each.shape for each in _traced(net, shape)[0]]


def variables_of(net, shape=(1, 32, 32, 3)):
    """Random variables; kernels keep the size of what they are applied to."""
    random = np.random.default_rng(0)
    flat = {}
    for name, leaf in shapes_of(net, shape).items():
        scale = 1 / math.sqrt(math.prod(leaf.shape[:-1])) if name.endswith("kernel") else 1.0
        flat[name] = np.float32(scale * random.normal(size=leaf.shape))
    return traverse_util.unflatten_dict(flat, sep="/")


def run(net, x, index, variables=None, **mode):
    """The maps of a net, compiled as a whole."""
    variables = variables or variables_of(net)
    return [np.asarray(each) for each in _maps(net, variables, x, np.int32(index), **mode)]


def _traced(net, shape):
    x, index = jax.ShapeDtypeStruct(shape, np.float32), np.zeros(shape[0], np.int32)
    return jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, index), x)


@partial(jax.jit, static_argnums=0, static_argnames=("train", "drop"))
def _maps(net, variables, x, index, train=False, drop=False):
    rngs = {"dropout": jax.random.key(1)}
    return net.apply(variables, x, index, train, drop, rngs=rngs)
