"""How much faster cached sampling is than a pass over the whole image for each value.

python -m tests.tools.sampling_speed --net=row

The plain loop draws the last row only, each value of which costs as much as any other,
and its time is multiplied by the number of rows. Compilation is left out.
"""

import argparse
import json
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import autoregressive
from jaxgen.likelihoods.pixels import binary
from jaxgen.nets.pixelcnn import PixelCNN
from jaxgen.nets.pixelrnn import PixelRNN

NETS = {"row": PixelRNN("row"), "diagonal": PixelRNN("diagonal"), "pixelcnn": PixelCNN()}


def measure(name: str, count: int = 64, side: int = 28) -> dict:
    """Seconds of both ways, their ratio, and whether they draw the same values."""
    shape = (side, side, 1)
    net = NETS[name].clone(outputs=1, groups=1)
    model = autoregressive.Model(net, binary(), shape, 0, side // 2, cached=True)
    batch = {"image": np.zeros((count, *shape), np.uint8), "index": np.arange(count)}
    params = jax.jit(partial(autoregressive.init_params, model))(jax.random.key(0), batch)
    uniform = autoregressive.noise(model, jax.random.key(1), batch["index"])

    def draw(cached, rows):
        way = model._replace(cached=cached)
        return jax.jit(lambda params, x, u: autoregressive.draw(way, params, x, rows, None, u)[0])

    whole, x = timed(draw(True, 0), params, jnp.zeros((count, *shape)), uniform)
    row, plain = timed(draw(False, side - 1), params, x, uniform)
    return {
        "net": name,
        "cached_seconds": whole,
        "plain_seconds": row * side,
        "ratio": row * side / whole,
        "same_last_row": bool((plain == x).all()),
    }


def timed(function, *args):
    """The least seconds of two calls after the first, and the result."""
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        found = jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - began)
    return min(seconds), found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=NETS, default="row")
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    print(json.dumps(measure(options.net, options.images)))
