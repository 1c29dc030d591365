"""Images of a VAE and their latents."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import vae_images
from tests.jaxgen.optimizers import adam
from tests.jaxgen.test_vae import KEY, MODEL, SHAPE, make_batch, make_task


def test_samples_depend_on_their_seed_and_class():
    task, batch = make_task(classes=4), make_batch(8)
    state = task.init(KEY, batch)
    index = np.array([3, 9, 3, 3], np.int32)
    images = task.sample(state, {"index": index, "label": np.array([0, 0, 0, 1])}, KEY)
    assert images.shape == (4, *SHAPE)
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images[0], images[2])
    assert np.abs(images[0] - images[1]).max() > 0
    assert np.abs(images[0] - images[3]).max() > 0


def test_figures_show_images_and_straight_lines_between_their_latents():
    task, batch = make_task(classes=4), make_batch(20) | {"label": np.full(20, 2)}
    state = task.init(KEY, batch)
    figures = jax.device_get(task.figures(state, batch, KEY))
    first = {name: leaf[:16] for name, leaf in batch.items()}
    above, below = figures["reconstructions"]
    np.testing.assert_allclose(above, first["image"] / 255.0, atol=1e-6)
    np.testing.assert_allclose(below, task.complete(state, first, KEY), atol=1e-5)
    seeds = {"index": np.arange(64), "label": np.arange(64) % 4}
    np.testing.assert_allclose(figures["samples"], task.sample(state, seeds, KEY), atol=1e-5)
    model = MODEL._replace(classes=4)
    _, condition, mean, _ = vae_images.encode(model, state.params, first, KEY)
    assert figures["interpolation"].shape == (8, 10, *SHAPE)
    for place in (0, 3, 9):
        z = mean[:8] + place / 9 * (mean[1:9] - mean[:8])
        wanted = jax.nn.sigmoid(vae_images.decode(model, state.params, z, condition[:8]))
        np.testing.assert_allclose(figures["interpolation"][:, place], wanted, atol=1e-5)


def test_a_strip_leads_from_one_seed_to_another():
    task = make_task(classes=4)
    state = task.init(KEY, make_batch())
    seeds = {"index": np.array([3, 5]), "label": np.array([1, 2])}
    strips = task.interpolate(state, seeds | {"end": np.array([9, 5])}, KEY)
    assert strips.shape == (2, 10, *SHAPE)
    ends = task.sample(state, {"index": np.array([9, 5]), "label": np.array([1, 2])}, KEY)
    np.testing.assert_allclose(strips[:, 0], task.sample(state, seeds, KEY), atol=1e-5)
    np.testing.assert_allclose(strips[:, -1], ends, atol=1e-5)
    np.testing.assert_allclose(strips[1], np.broadcast_to(ends[1], (10, *SHAPE)), atol=1e-5)


def test_completing_an_image_rebuilds_it():
    task, batch = make_task(adam(1e-2)), make_batch(4)
    batch["image"] = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (4, *SHAPE))
    state = task.init(KEY, batch)
    for step in range(300):
        state, _ = task.train_step(state, batch, jax.random.fold_in(KEY, step))
    rebuilt = np.asarray(task.complete(state, batch, KEY))
    error = np.abs(rebuilt - batch["image"] / 255.0).mean()
    others = np.abs(rebuilt[::-1] - batch["image"] / 255.0).mean()
    assert error < 0.5 * others
    assert task.given == "image"


def test_a_codec_draws_latents_of_the_posterior_and_decodes_them():
    task, batch = make_task(), make_batch()
    batch["image"] = np.where(batch["image"] > 128, 255, 0).astype(np.uint8)  # nothing to draw
    state = task.init(KEY, batch)
    codec = task.codec(state)
    assert (codec.image_shape, codec.shape) == (SHAPE, (1, 1, 3))
    draws = jnp.stack(
        [codec.encode(batch["image"], jax.random.key(k), batch["index"]) for k in range(400)]
    )
    _, _, mean, log_std = vae_images.encode(MODEL, state.params, batch, KEY)
    np.testing.assert_allclose(draws.mean(0)[:, 0, 0], mean, atol=0.25)
    np.testing.assert_allclose(draws.std(0)[:, 0, 0], jnp.exp(log_std), rtol=0.2)
    part = codec.encode(batch["image"][5:7], jax.random.key(3), batch["index"][5:7])
    np.testing.assert_allclose(part, draws[3, 5:7], atol=1e-5)  # of (rng, index) alone
    rebuilt = codec.decode(mean[:, None, None])
    np.testing.assert_allclose(rebuilt, task.complete(state, batch, KEY), atol=1e-5)
    assert make_task(classes=4).codec is None
