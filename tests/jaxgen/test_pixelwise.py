from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import pixelwise
from jaxgen.likelihoods.pixels import codes, level_of
from jaxgen.nets.pixelcnn import PixelCNN

KEY = jax.random.key(0)
LEVELS, SHAPE = (3, 2), (3, 4, 2)


def made():
    """A net far from zero, whose channels have different numbers of levels."""
    likelihood = codes(LEVELS, lambda image: image)
    net = PixelCNN(2, 6, 12, first=3, outputs=likelihood.outputs(2), groups=2)
    model = pixelwise.Model(net, likelihood, SHAPE, 0, 0, cached=True)
    x = jnp.zeros((1, *SHAPE))
    params = net.init(KEY, x, None, mutable=["params"])["params"]
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    return model, structure.unflatten([0.5 * rng.normal(size=a.shape).astype("f4") for a in leaves])


def test_both_loops_draw_the_same_and_keep_the_rows_above():
    (model, params), rng = made(), np.random.default_rng(1)
    first = rng.choice(np.float32([-1, 0, 1]), (5, *SHAPE))
    uniform = rng.uniform(size=(5, *SHAPE)).astype(np.float32)
    found, other = (
        jax.jit(partial(pixelwise.draw, model._replace(cached=cached), rows=1, condition=None))(
            params, first, uniform=uniform
        )[0]
        for cached in (True, False)
    )
    np.testing.assert_allclose(found, other, atol=1e-5)
    np.testing.assert_array_equal(found[:, :1], first[:, :1])
    levels = np.asarray(level_of(found[:, 1:], 3))
    assert set(levels[..., 0].ravel()) == {0, 1, 2}
    assert set(levels[..., 1].ravel()) == {0, 1}


def test_conditionals_give_levels_that_a_channel_lacks_no_probability():
    model, params = made()
    found = pixelwise.conditionals(model, params, jnp.zeros((2, *SHAPE)), None)
    assert found.shape == (2, *SHAPE, 3)
    assert np.isfinite(found[..., 0, :]).all()
    assert np.isneginf(found[..., 1, 2]).all()
    assert np.isfinite(found[..., 1, :2]).all()
