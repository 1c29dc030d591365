import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.decomposition import PCA

from jaxgen import likelihoods, nets, vae, vae_images
from jaxgen.likelihood_training import State
from jaxgen.losses import bounds
from tests.jaxgen.optimizers import adam

SHAPE = (6, 5, 1)
KEY = jax.random.key(0)
MODEL = vae_images.Model(
    nets.MLPEncoder(3, (16,)), nets.MLPDecoder((16,)), likelihoods.bernoulli(), SHAPE, 0
)


def make_batch(count=24, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(3, *shape))
    image = 128 + np.tensordot(rng.normal(size=(count, 3)), basis, 1) * 20
    return {
        "image": np.clip(image + rng.normal(size=image.shape) * 8, 0, 255).astype(np.uint8),
        "label": (np.arange(count) % 4).astype(np.int32),
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    }


def make_task(optimizer=None, shape=SHAPE, **kwargs):
    example = {
        "image": jax.ShapeDtypeStruct(shape, np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    encoder, decoder = nets.MLPEncoder(3, (16,)), nets.MLPDecoder((16,))
    task = vae.vae(encoder, decoder, optimizer or adam(3e-3), example, **kwargs)
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


@functools.cache
def initial():
    """Parameters of MODEL."""
    return jax.jit(functools.partial(vae_images.init_params, MODEL))(KEY, make_batch(1))


def linear_model():
    """A linear-Gaussian VAE at the maximum-likelihood solution, and the solution itself."""
    batch = make_batch(400)
    scale_free = likelihoods.gaussian(1.0)
    x = np.asarray(scale_free.observe(batch["image"], jax.random.fold_in(KEY, 0), batch["index"]))
    flat = x.reshape(len(x), -1).astype(np.float64)
    pca = PCA(3, svd_solver="full").fit(flat)
    noise = pca.noise_variance_
    loading = pca.components_.T * np.sqrt(pca.explained_variance_ - noise)  # W, D x L
    precision = loading.T @ loading + noise * np.eye(3)  # diagonal: W has orthogonal columns
    to_mean = np.linalg.solve(precision, loading.T).T
    log_std = 0.5 * np.log(noise / np.diag(precision))
    posterior = {
        "kernel": np.concatenate([to_mean, np.zeros_like(to_mean)], 1),
        "bias": np.concatenate([-pca.mean_ @ to_mean, log_std]),
    }
    params = {
        "encoder": {"posterior": posterior},
        "decoder": {"Dense_0": {"kernel": loading.T, "bias": pca.mean_}},
    }
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    likelihood = likelihoods.gaussian(float(np.sqrt(noise)))
    model = vae_images.Model(nets.MLPEncoder(3, ()), nets.MLPDecoder(()), likelihood, SHAPE, 0)
    return model, params, batch, pca.score_samples(flat)


def test_linear_gaussian_elbo_is_the_likelihood_of_probabilistic_pca():
    model, params, batch, expected = linear_model()

    # With q the exact posterior each weight is p(x): any k, any noise, no variance.
    @jax.jit
    def estimates(params):
        arguments = model, params, batch, KEY
        losses = [vae.importance_loss(*arguments, k, k > 1)["loss"] for k in (1, 5)]
        elbo = vae.elbo_loss(*arguments, samples=200)["loss"]
        return *losses, vae.negative_log_likelihood(*arguments, 7), elbo

    *exact, elbo = estimates(params)
    for found in exact:
        np.testing.assert_allclose(-found, expected, rtol=2e-4)
    assert abs(-float(elbo.mean()) - expected.mean()) < 0.05


def test_at_the_optimum_the_gradient_of_the_elbo_vanishes():
    model, params, batch, _ = linear_model()

    def loss(params):
        return vae.elbo_loss(model, params, batch, KEY, samples=400)["loss"].mean()

    norm = jax.jit(lambda params: optax.global_norm(jax.grad(loss)(params)))
    moved = jax.tree.map(lambda leaf: leaf * 1.05, params)
    assert norm(params) < 0.1 * norm(moved)


@pytest.mark.parametrize("objective", ["iwae", "dreg"])
def test_at_the_exact_posterior_the_dreg_gradient_of_the_encoder_vanishes(objective):
    """Of every draw, and not only on average as the plain gradient."""
    model, params, batch, _ = linear_model()
    few = {name: leaf[:6] for name, leaf in batch.items()}
    example = {"image": jax.ShapeDtypeStruct(SHAPE, np.uint8)}
    task = vae.vae(*model[:2], optax.sgd(1.0), example, model.likelihood, objective, samples=3)
    after, _ = jax.jit(task.train_step)(State(params, optax.sgd(1.0).init(params)), few, KEY)
    change = jax.tree.map(jnp.subtract, after.params["encoder"], params["encoder"])
    assert (optax.tree.norm(change) < 1e-2) == (objective == "dreg")


def test_a_step_minimises_the_terms_of_the_bound_by_hand():
    """One draw, beta 1 and no free bits, where nothing else is asked for."""
    task, batch, params = make_task(), make_batch(5), initial()
    x = MODEL.likelihood.observe(batch["image"], jax.random.fold_in(KEY, 0), batch["index"])
    encoded = MODEL.encoder.apply({"params": params["encoder"]}, x, None)
    mean, log_std = (np.asarray(part) for part in encoded)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(KEY, 1), batch["index"])
    z = mean + np.exp(log_std) * jax.vmap(lambda key: jax.random.normal(key, (1, 3)))(keys)[:, 0]
    logits = np.float64(MODEL.decoder.apply({"params": params["decoder"]}, z, SHAPE))
    white = np.asarray(x) == 1
    nats = np.logaddexp(0, np.where(white, -logits, logits)).sum((1, 2, 3))
    kl = 0.5 * (np.exp(2 * log_std) + mean**2 - 1 - 2 * log_std).sum(1)
    state = State(params, adam(3e-3).init(params))
    for sums in (task.train_step(state, batch, KEY)[1], task.eval_step(state, batch, KEY)):
        assert sums["reconstruction"] == pytest.approx(nats.sum(), rel=1e-5)
        assert sums["kl"] == pytest.approx(kl.sum(), rel=1e-5)
        assert sums["loss"] == pytest.approx(nats.sum() + kl.sum(), rel=1e-5)


def test_the_importance_bound_rises_with_k():
    batch, params = make_batch(64), initial()

    @jax.jit
    def bounds_of(keys):
        def one(key):
            arguments = MODEL, params, batch, key
            losses = [vae.importance_loss(*arguments, k, False)["loss"] for k in (1, 5, 50)]
            return *losses, vae.negative_log_likelihood(*arguments, 1000)

        return [jnp.mean(values) for values in jax.vmap(one)(keys)]

    # The same eight binarisations for every k.
    first, fifth, fiftieth, nll = map(float, bounds_of(jax.random.split(KEY, 8)))
    assert first > fifth > fiftieth > nll - 1e-3


@pytest.mark.parametrize("samples", [7, 50, 120])
def test_the_chunked_nll_is_the_plain_estimate_on_the_same_noise(samples):
    batch = make_batch(5)

    @jax.jit
    def both(params):
        x, condition, mean, log_std = vae_images.encode(MODEL, params, batch, KEY)
        chunk = min(50, samples)
        parts = []
        for number in range(-(-samples // chunk)):
            key = jax.random.fold_in(jax.random.fold_in(KEY, 2), number)
            parts.append(vae_images.draw_latents(mean, log_std, key, batch["index"], chunk))
        z = jnp.concatenate(parts)[:samples]
        log_weights = (
            MODEL.likelihood.log_prob(x, vae_images.decode(MODEL, params, z, condition))
            + bounds.gaussian_log_prob(z)
            - bounds.gaussian_log_prob(z, mean[None], log_std[None])
        )
        found = vae.negative_log_likelihood(MODEL, params, batch, KEY, samples)
        return found, -bounds.importance_bound(log_weights)

    np.testing.assert_allclose(*both(initial()), rtol=1e-5)


@pytest.mark.parametrize(
    "objective",
    [
        {},
        {"beta": 0.5, "free_bits": 0.1, "samples": 2},
        {"objective": "iwae", "samples": 4},
        {"objective": "dreg", "samples": 4},
        {"classes": 4},
        {"likelihood": likelihoods.gaussian()},
        {"likelihood": likelihoods.discretized_logistic()},
    ],
)
def test_training_lowers_the_loss(objective):
    task, batch = make_task(**objective), make_batch(64)
    state, step = task.init(KEY, batch), task.train_step
    losses = []
    for number in range(60):
        state, sums = step(state, batch, jax.random.fold_in(KEY, number))
        losses.append(task.finish(jax.device_get(sums))["loss"])
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1.0


def test_free_bits_leave_small_kl_alone():
    batch = make_batch(4)
    loss = lambda params, **options: vae.elbo_loss(MODEL, params, batch, KEY, **options)
    floor, plain = jax.jit(lambda p: (loss(p, free_bits=50.0), loss(p, beta=2.0)))(initial())
    np.testing.assert_allclose(floor["loss"], floor["reconstruction"] + 3 * 50.0, rtol=1e-5)
    np.testing.assert_allclose(plain["loss"], plain["reconstruction"] + 2 * plain["kl"], rtol=1e-5)


def test_evaluation_sums_do_not_depend_on_how_examples_are_batched():
    task, batch = make_task(nll_samples=30), make_batch(24)
    state = task.init(KEY, batch)
    whole = task.score_step(state, batch, KEY)
    padded = {key: np.concatenate([leaf[20:], leaf[:6]]) for key, leaf in batch.items()}
    padded["mask"] = np.arange(10) < 4
    first = {key: leaf[:20] for key, leaf in batch.items()}
    parts = [task.score_step(state, part, KEY) for part in (first, padded)]
    for name, value in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], value, rtol=1e-6)
    assert whole["count"] == 24


def test_metrics_add_up():
    task, batch = make_task(), make_batch(24)
    sums = jax.device_get(task.score_step(State(initial(), adam(3e-3).init({})), batch, KEY))
    metrics = task.finish(sums)
    thousand = jax.jit(functools.partial(vae.negative_log_likelihood, MODEL, samples=1000))
    assert sums["nll"] == pytest.approx(float(thousand(initial(), batch, KEY).sum()), rel=1e-5)
    assert metrics["negative_elbo"] == pytest.approx(metrics["reconstruction"] + metrics["kl"])
    assert metrics["loss"] == pytest.approx(metrics["negative_elbo"], rel=1e-5)
    assert metrics["bits_per_dim"] == pytest.approx(metrics["negative_elbo"] / (30 * np.log(2)))
    assert metrics["nll"] < metrics["negative_elbo"]


def test_a_class_id_out_of_range_never_trains_silently():
    task, batch = make_task(classes=4), make_batch(8)
    state = task.init(KEY, batch)
    for bad in (-1, 4, 255):
        wrong = batch | {"label": batch["label"].copy()}
        wrong["label"][3] = bad
        _, sums = task.train_step(state, wrong, KEY)
        assert np.isnan(sums["loss"])
    _, sums = task.train_step(state, batch, KEY)
    assert np.isfinite(sums["loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "elbow"}, "must be elbo, iwae or dreg"),
        ({"objective": "iwae", "beta": 2.0}, "belong to the elbo objective"),
        ({"samples": 0}, "at least 1"),
        ({"nll_samples": 0}, "samples=1 and nll_samples=0 must be at least 1"),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    make_task(samples=1, nll_samples=1)
    with pytest.raises(ValueError, match=message):
        make_task(**change)


@pytest.mark.parametrize(
    "example",
    [
        {"picture": jax.ShapeDtypeStruct((4, 4, 1), np.uint8)},
        {"image": jax.ShapeDtypeStruct((4, 4), np.uint8)},
        {"image": jax.ShapeDtypeStruct((4, 4, 1), np.float32)},
    ],
)
def test_examples_without_uint8_images_are_refused(example):
    with pytest.raises(ValueError, match="needs examples with `image` uint8"):
        vae.vae(nets.MLPEncoder(2), nets.MLPDecoder(), adam(1e-3), example)
