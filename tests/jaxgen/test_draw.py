from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from jaxgen import draw as module
from jaxgen import likelihoods
from jaxgen.draw import draw
from jaxgen.likelihood_training import State
from jaxgen.losses import bounds
from jaxgen.nets.draw import DrawNet
from launch.config import loading
from tests.jaxgen.optimizers import adam
from tests.launch.engine import test_compiled_steps

KEY = jax.random.key(0)
ATTENTION = {"read_size": 2, "write_size": 3}


def net(**kwargs):
    return DrawNet(**{"glimpses": 3, "latents": 2, "hidden": 8} | kwargs)


def make_batch(count=8, shape=(5, 4, 1), seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.choice(np.array([0, 255], np.uint8), (count, *shape)),
        "label": (np.arange(count) % 4).astype(np.int32),
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    }


def make_task(model=None, shape=(5, 4, 1), optimizer=None, **kwargs):
    example = {
        "image": jax.ShapeDtypeStruct(shape, np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    task = draw(model or net(), optimizer or adam(1e-2), example, **kwargs)
    compiled = (
        "init",
        "train_step",
        "eval_step",
        "score_step",
        "sample",
        "figures",
        "complete",
        "interpolate",
    )
    return task._replace(**{name: jax.jit(getattr(task, name)) for name in compiled})


def exact(model, params, x):
    """log p(x) of each x by Gauss-Hermite quadrature over two latents, and -log of it."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(points, points, indexing="ij")).reshape(2, -1, 1)
    weights = np.outer(weights, weights).reshape(-1) / (2 * np.pi)
    canvas = jax.jit(partial(module.generate, model))(params, grid.astype("f4"), None)
    log_prob = jax.vmap(lambda one: model.likelihood.log_prob(one[None], canvas))(x)
    return np.log(np.exp(np.asarray(log_prob, np.float64)) @ weights)


@pytest.fixture(scope="module")
def tiny():
    """Two glimpses of one latent each at all 2 x 2 images, far from any optimum."""
    model = module.Model(DrawNet(2, 1, 4, 0, 0), likelihoods.bernoulli(), (2, 2, 1), 0)
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    batch = make_batch(16, (2, 2, 1)) | {"image": (bits * 255).reshape(16, 2, 2, 1).astype("u1")}
    params = jax.jit(partial(module.init_params, model))(KEY, batch)
    noise = jax.random.normal(jax.random.key(5), (1000,))
    moved = lambda leaf: leaf + 0.7 * noise[: leaf.size].reshape(leaf.shape)
    params = jax.tree.map(moved, params)
    return model, params, batch, exact(model, params, bits.reshape(16, 2, 2, 1).astype(float))


def test_probabilities_sum_to_one(tiny):
    assert np.exp(tiny[-1]).sum() == pytest.approx(1, abs=1e-5)
    assert np.ptp(tiny[-1]) > 1


def test_the_bound_lies_below_the_likelihood_and_importance_samples_close_the_gap(tiny):
    model, params, batch, log_likelihood = tiny
    keys = jax.random.split(KEY, 400)
    loss = lambda key: module.elbo_loss(model, params, batch, key)["loss"]
    elbo = -np.asarray(jax.jit(jax.vmap(loss))(keys), np.float64)
    error = elbo.std(0) / np.sqrt(len(keys))
    assert (elbo.mean(0) < log_likelihood + 3 * error).all()
    estimate = jax.jit(partial(module.negative_log_likelihood, model, samples=20_000))
    nll = estimate(params, batch, KEY)
    np.testing.assert_allclose(-nll, log_likelihood, atol=0.03)
    assert (log_likelihood - elbo.mean(0)).mean() > 0.1


def test_a_score_takes_200_importance_samples_ten_at_a_time(tiny):
    model, params, batch, _ = tiny
    few = {name: leaf[:3] for name, leaf in batch.items()}
    task = make_task(model.net, (2, 2, 1))
    state = State(params, adam(1e-2).init({}))
    sums = jax.device_get(task.score_step(state, few, KEY))

    @jax.jit
    def log_weights(number):
        key = jax.random.fold_in(jax.random.fold_in(KEY, 2), number)
        noise = module.latent_noise(model, key, few["index"], 10)
        x = few["image"] / np.float32(255)

        def one(noise):
            canvas, mean, log_std = module.infer(model, params, x, None, noise)
            z = mean + jnp.exp(log_std) * noise
            # log p(z) - log q(z), whose constants cancel.
            ratio = 0.5 * (noise**2 - z**2) + log_std
            return model.likelihood.log_prob(x, canvas) + ratio.sum((0, -1))

        return jax.vmap(one)(noise)

    weights = jax.device_get(jax.lax.map(log_weights, jnp.arange(20))).reshape(200, 3)
    nll = np.log(200) - logsumexp(weights.astype(np.float64), axis=0)
    assert sums["nll"] == pytest.approx(nll.sum(), rel=1e-5)


def test_the_kl_of_a_glimpse_is_the_integral():
    for mean, log_std in ((1.0, 0.0), (-0.5, -0.5), (0.3, 0.8)):
        q = norm(mean, np.exp(log_std))
        wanted, _ = quad(lambda z: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z)), -20, 20)  # noqa: B023
        assert bounds.gaussian_kl(mean, log_std) == pytest.approx(wanted, abs=1e-6)


def test_the_bound_sums_the_glimpses_and_generation_repeats_inference():
    model = module.Model(net(**ATTENTION), likelihoods.bernoulli(), (5, 4, 1), 0)
    batch = make_batch()
    batch["image"] = batch["image"] // 2 + 50
    params = jax.jit(partial(module.init_params, model))(KEY, batch)
    x = model.likelihood.observe(batch["image"], jax.random.fold_in(KEY, 0), batch["index"])
    noise = module.latent_noise(model, jax.random.fold_in(KEY, 1), batch["index"], 1)[0]
    np.testing.assert_array_equal(
        module.latent_noise(model, jax.random.fold_in(KEY, 1), batch["index"]), noise[None]
    )
    canvas, mean, log_std = jax.jit(partial(module.infer, model))(params, x, None, noise)
    assert mean.shape == (3, 8, 2)
    terms = jax.jit(partial(module.elbo_loss, model))(params, batch, KEY)
    kl = 0.5 * (mean**2 + np.exp(2 * log_std) - 2 * log_std - 1)
    np.testing.assert_allclose(terms["kl"], np.asarray(kl).sum((0, 2)), rtol=1e-5, atol=1e-6)
    nats = np.logaddexp(0, np.where(x == 1, -canvas, canvas)).sum((1, 2, 3))
    np.testing.assert_allclose(terms["reconstruction"], nats, rtol=1e-5)
    np.testing.assert_allclose(terms["loss"], nats + terms["kl"], rtol=1e-5)
    z = mean + jnp.exp(log_std) * noise
    canvases = jax.jit(partial(module.generate, model, history=True))(params, z, None)
    assert canvases.shape == (3, 8, 5, 4, 1)
    np.testing.assert_allclose(canvases[-1], canvas, atol=1e-5)
    last = jax.jit(partial(module.generate, model))(params, z, None)
    np.testing.assert_allclose(last, canvas, atol=1e-5)


def test_training_lowers_the_loss():
    options = {"classes": 4, "likelihood": likelihoods.discretized_logistic()}
    model = net(hidden=16, **ATTENTION)
    task, batch = make_task(model, nll_samples=25, **options), make_batch(16)
    state = task.init(KEY, batch)
    losses = []
    for number in range(60):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, number))
        losses.append(task.finish(jax.device_get(sums))["loss"])
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1.0
    metrics = task.finish(jax.device_get(task.score_step(state, batch, KEY)))
    assert metrics["negative_elbo"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert metrics["nll_bits_per_dim"] == pytest.approx(metrics["nll"] / (20 * np.log(2)))
    names = {
        "loss",
        "negative_elbo",
        "kl",
        "reconstruction",
        "nll",
        "bits_per_dim",
        "nll_bits_per_dim",
    }
    assert set(metrics) == names
    # A class id out of range never trains silently.
    wrong = batch | {"label": np.full(16, 4, np.int32)}
    assert np.isnan(task.train_step(state, wrong, KEY)[1]["loss"])


def test_images_belong_to_their_seed_and_class():
    task, batch = make_task(classes=4), make_batch(4)
    state = task.init(KEY, batch)
    seeds = {"index": np.array([3, 9, 3, 3]), "label": np.array([0, 0, 0, 1])}
    images = task.sample(state, seeds, KEY)
    assert images.shape == (4, 5, 4, 1)
    np.testing.assert_array_equal(images[0], images[2])
    assert np.abs(images[0] - images[1]).max() > 0
    assert np.abs(images[0] - images[3]).max() > 0
    end = np.array([9, 5, 3, 7])
    strips = task.interpolate(state, seeds | {"end": end}, KEY)
    ends = task.sample(state, seeds | {"index": end}, KEY)
    np.testing.assert_allclose(strips[:, 0], images, atol=1e-5)
    np.testing.assert_allclose(strips[:, -1], ends, atol=1e-5)
    assert task.complete(state, batch, KEY).shape == (4, 5, 4, 1)


def test_figures_show_images_samples_and_how_they_are_drawn():
    task, batch = make_task(classes=4), make_batch(20)
    state = task.init(KEY, batch)
    figures = jax.device_get(task.figures(state, batch, KEY))
    first = {name: leaf[:16] for name, leaf in batch.items()}
    np.testing.assert_allclose(figures["reconstructions"][0], first["image"] / 255.0, atol=1e-6)
    rebuilt = task.complete(state, first, KEY)
    np.testing.assert_allclose(figures["reconstructions"][1], rebuilt, atol=1e-5)
    seeds = {"index": np.arange(64), "label": np.arange(64) % 4}
    samples = task.sample(state, seeds, KEY)
    np.testing.assert_allclose(figures["samples"], samples, atol=1e-5)
    few = {name: leaf[:8] for name, leaf in seeds.items()}
    strips = task.interpolate(state, few | {"end": np.array([1, 2, 3, 4, 5, 6, 7, 0])}, KEY)
    np.testing.assert_allclose(figures["interpolation"], strips, atol=1e-5)
    assert figures["canvases"].shape == (8, 3, 5, 4, 1)
    np.testing.assert_allclose(figures["canvases"][:, -1], samples[:8], atol=1e-5)
    # Of more than ten glimpses, ten are shown.
    task = make_task(net(glimpses=12))
    figures = jax.eval_shape(task.figures, jax.eval_shape(task.init, KEY, batch), batch, KEY)
    assert figures["canvases"].shape == (8, 10, 5, 4, 1)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({"glimpses": 0}, {}, "must be at least 1"),
        ({"read_size": -1}, {}, "not negative"),
        ({}, {"nll_samples": 0}, "nll_samples=0 must be at least 1"),
    ],
)
def test_impossible_arguments_are_refused(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        make_task(net(**sizes), **options).init(KEY, make_batch())


@pytest.fixture(scope="module")
def one_device():
    return []


@pytest.mark.parametrize("name", ["fsdp 4", "pmap on 8"])
def test_every_layout_gives_the_losses_of_one_device(data_dir, one_device, name):
    config = {
        "task": {"name": "jaxgen.draw:draw", "nll_samples": 2},
        "model": {
            "name": "jaxgen.nets:DrawNet",
            "glimpses": 2,
            "latents": 2,
            "hidden": 32,
            **ATTENTION,
        },
        "optimizer": {"name": "optax:adam", "learning_rate": 1e-3},
        "data": {"name": "digits", "data_dir": data_dir, "batch_size": 32},
    }
    config = loading.with_defaults(ConfigDict(config), "draw")

    def train(name):
        # The optimisers and sharding of `launch` are not held to strict promotion.
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return test_compiled_steps.losses(test_compiled_steps.layout(config, name), steps=5)

    if not one_device:
        one_device += train("one device")
    found, state = train(name)
    np.testing.assert_allclose(found, one_device[0], rtol=0, atol=1e-5)
    for got, wanted in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(one_device[1].params), strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-3)
