"""Images of a hierarchical VAE and their latents."""

import jax
import numpy as np
import pytest

from jaxgen import hierarchy_images
from jaxgen.hierarchy_images import Model
from jaxgen.likelihoods import discretized_logistic
from tests.jaxgen.test_hierarchy import DRAW, KEY, NET, SHAPE, far_from_zero, make_batch, make_task


@pytest.mark.parametrize("net", [NET, DRAW], ids=["ladder", "draw"])
def test_images_belong_to_their_seeds_and_figures_show_them(net):
    task, batch = make_task(net, classes=2), make_batch(20)
    state = far_from_zero(task, batch)
    seeds = {"index": np.array([4, 9, 4, 4]), "label": np.array([0, 0, 0, 1])}
    images = task.sample(state, seeds, KEY)
    alone = task.sample(state, {name: leaf[1:2] for name, leaf in seeds.items()}, KEY)
    np.testing.assert_allclose(images[1], alone[0], atol=1e-5)
    np.testing.assert_allclose(images[0], images[2], atol=1e-6)
    assert min(np.abs(images[0] - images[other]).max() for other in (1, 3)) > 1e-3
    strips = task.interpolate(state, seeds | {"end": np.array([9, 4, 4, 9])}, KEY)
    assert strips.shape == (4, 10, *SHAPE)
    np.testing.assert_allclose(strips[0, 0], images[0], atol=1e-4)
    np.testing.assert_allclose(strips[0, -1], images[1], atol=1e-4)
    figures = jax.device_get(jax.jit(task.figures)(state, batch, KEY))
    first = {name: leaf[:16] for name, leaf in batch.items()}
    shown = np.stack([first["image"] / 255.0, task.complete(state, first, KEY)])
    np.testing.assert_allclose(figures["reconstructions"], shown, atol=1e-5)
    seeds = {"index": np.arange(64), "label": np.arange(64) % 2}
    np.testing.assert_allclose(figures["samples"], task.sample(state, seeds, KEY), atol=1e-5)
    few = {name: leaf[:8] for name, leaf in seeds.items()}
    strips = task.interpolate(state, few | {"end": np.array([1, 2, 3, 4, 5, 6, 7, 0])}, KEY)
    np.testing.assert_allclose(figures["interpolation"], strips, atol=1e-5)


def test_draw_shows_its_glimpses():
    task = make_task(DRAW, likelihood=discretized_logistic(), classes=2)
    batch = make_batch(16)
    state = far_from_zero(task, batch)
    figures = jax.device_get(jax.jit(task.figures)(state, batch, KEY))
    assert figures["canvases"].shape == (8, 3, *SHAPE)
    np.testing.assert_allclose(figures["canvases"][:, -1], figures["samples"][:8], atol=1e-5)
    # Of more than ten glimpses, ten are shown.
    task = make_task(DRAW.clone(glimpses=12))
    shapes = jax.eval_shape(task.figures, jax.eval_shape(task.init, KEY, batch), batch, KEY)
    assert shapes["canvases"].shape == (8, 10, *SHAPE)


def test_draw_reads_the_image_that_the_likelihood_makes_of_its_canvas():
    batch, likelihood = make_batch(), discretized_logistic()
    task = make_task(DRAW, likelihood=likelihood)
    state = task.init(KEY, batch)
    net = DRAW.clone(image_of=likelihood.mean)
    model = Model(net, likelihood, SHAPE, 0)
    wanted = hierarchy_images.reconstruct(model, state.params, batch, KEY)
    np.testing.assert_allclose(task.complete(state, batch, KEY), wanted, atol=1e-6)
