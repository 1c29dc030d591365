from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import hierarchy, hierarchy_images
from jaxgen.hierarchy_images import Model, observe
from jaxgen.likelihoods import bernoulli, discretized_logistic
from jaxgen.nets.draw import DrawNet
from jaxgen.nets.ladder import Ladder
from tests.jaxgen.optimizers import adam

KEY = jax.random.key(0)
SHAPE = (4, 4, 1)
NET = Ladder(patch=2, widths=(8,), groups=(1,), latents=(1,), top=2, blocks=1)
DRAW = DrawNet(glimpses=3, latents=2, hidden=8, read_size=2, write_size=3)


def make_batch(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.choice(np.array([0, 255], np.uint8), (count, *SHAPE)),
        "label": (np.arange(count) % 2).astype(np.int32),
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    }


def make_task(net=NET, **kwargs):
    example = {
        "image": jax.ShapeDtypeStruct(SHAPE, np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    task = hierarchy.hierarchical_vae(net, adam(1e-2), example, **kwargs)
    names = ("init", "train_step", "eval_step", "score_step", "sample", "complete", "interpolate")
    return task._replace(**{name: jax.jit(getattr(task, name)) for name in names})


def far_from_zero(task, batch):
    """A state whose parameters are all random, so that no zero hides anything."""
    state, rng = task.init(KEY, batch), np.random.default_rng(0)
    moved = lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32)
    return state._replace(params=jax.tree.map(moved, state.params))


@pytest.fixture(scope="module")
def tiny():
    """Two groups of one latent at all images of 2 x 2, and log p(x) of each by quadrature."""
    model = Model(DrawNet(2, 1, 4), bernoulli(), (2, 2, 1), 0)
    bits = ((np.arange(16)[:, None] >> np.arange(4)) & 1).reshape(16, 2, 2, 1)
    batch = make_batch(16) | {"image": (bits * 255).astype(np.uint8)}
    params = jax.jit(partial(hierarchy_images.init_params, model))(KEY, batch)
    noise = jax.random.normal(jax.random.key(5), (1000,))
    params = jax.tree.map(lambda x: x + 0.7 * noise[: x.size].reshape(x.shape), params)
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(points, points), -1).reshape(-1, 2).astype(np.float32)
    weights = np.outer(weights, weights).reshape(-1) / (2 * np.pi)
    apply = jax.jit(partial(model.net.apply, {"params": params}, shape=model.outputs))
    canvas = apply(noise=grid)[0]
    log_prob = jax.vmap(lambda x: model.likelihood.log_prob(x[None], canvas))
    exact = np.log(np.exp(np.float64(log_prob(bits.astype(np.float32)))) @ weights)
    return model, params, batch, exact


def test_the_bound_lies_below_the_likelihood_and_importance_samples_close_the_gap(tiny):
    model, params, batch, exact = tiny
    assert np.exp(exact).sum() == pytest.approx(1, abs=1e-5)
    assert np.ptp(exact) > 1
    keys = jax.random.split(KEY, 400)
    loss = lambda key: hierarchy.elbo_loss(model, params, batch, key)["loss"]
    elbo = -np.asarray(jax.jit(jax.vmap(loss))(keys), np.float64)
    error = elbo.std(0) / np.sqrt(len(keys))
    assert (elbo.mean(0) < exact + 3 * error).all()
    assert (exact - elbo.mean(0)).mean() > 0.1
    estimate = jax.jit(partial(hierarchy.negative_log_likelihood, model, samples=20_000))
    np.testing.assert_allclose(-estimate(params, batch, KEY), exact, atol=0.03)


@pytest.fixture(scope="module")
def trained():
    """A task with classes, after enough steps that its latents tell the images apart."""
    task, batch = make_task(classes=2, nll_samples=500), make_batch()
    state = task.init(KEY, batch)
    losses = []
    for step in range(200):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, step))
        losses.append(float(sums["loss"]))
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    return task, state, batch


def test_importance_samples_close_the_gap_of_the_bound(trained):
    task, state, batch = trained
    found = task.finish(jax.tree.map(np.float64, task.score_step(state, batch, KEY)))
    assert found["nll"] < found["negative_elbo"]
    assert found["negative_elbo"] == pytest.approx(found["reconstruction"] + found["kl"])
    assert found["kl"] == pytest.approx(found["kl/0"] + found["kl/1"], rel=1e-5)
    assert found["kl"] > 0.5


def test_the_estimate_is_the_mean_over_the_prior():
    """-log p(x) = -log E_p(z)[p(x | z)], by latents of the prior in place of the posterior."""
    task, batch = make_task(classes=2), make_batch()
    state = task.init(KEY, batch)
    for step in range(40):  # the longer, the fewer latents of the prior hit an image
        state, _ = task.train_step(state, batch, jax.random.fold_in(KEY, step))
    model = Model(NET, bernoulli(), SHAPE, 2)
    one = {name: leaf[:2] for name, leaf in batch.items()}
    estimate = jax.jit(partial(hierarchy.negative_log_likelihood, model, samples=2000))
    nll = estimate(state.params, one, KEY)
    x, condition = observe(model, one, KEY)
    apply = partial(NET.apply, {"params": state.params})

    def log_prob(noise):
        output, *_ = apply(noise, model.outputs, None, condition)
        return model.likelihood.log_prob(x, output)

    noise = jax.random.normal(jax.random.key(7), (20_000, 2, model.size))
    values = jax.jit(lambda noise: jax.lax.map(log_prob, noise, batch_size=500))(noise)
    by_prior = np.log(len(values)) - jax.nn.logsumexp(values, axis=0)
    np.testing.assert_allclose(nll, by_prior, atol=0.15)


@pytest.mark.parametrize("net", [NET, DRAW], ids=["ladder", "draw"])
def test_a_score_takes_200_importance_samples_unless_told_otherwise(net):
    batch = make_batch()
    model = Model(net, bernoulli(), SHAPE, 0)
    for options, samples in (({}, 200), ({"nll_samples": 30}, 30)):
        task = make_task(net, **options)
        state = far_from_zero(task, batch)
        estimate = partial(hierarchy.negative_log_likelihood, model, samples=samples)
        wanted = jnp.sum(jax.jit(estimate)(state.params, batch, KEY))
        found = task.score_step(state, batch, KEY)
        assert found["nll"] == pytest.approx(float(wanted), rel=1e-5)


def test_a_reconstruction_resembles_its_image(trained):
    task, state, batch = trained
    rebuilt, image = task.complete(state, batch, KEY), batch["image"] / 255
    assert np.abs(rebuilt - image).mean() < 0.3 < np.abs(rebuilt - image[::-1]).mean()


def test_free_bits_are_the_least_that_a_group_costs():
    task, batch = make_task(free_bits=50.0), make_batch()
    state = task.init(KEY, batch)
    _, sums = task.train_step(state, batch, KEY)
    sums = jax.device_get(sums)
    assert sums["loss"] == pytest.approx(sums["reconstruction"] + 6 * 2 * 50.0, rel=1e-5)
    plain = jax.device_get(task.eval_step(state, batch, KEY))
    assert plain["loss"] == pytest.approx(plain["reconstruction"] + plain["kl"], rel=1e-5)


def test_noise_does_not_depend_on_the_batch():
    task, batch = make_task(), make_batch()
    state = task.init(KEY, batch)
    model = Model(NET, bernoulli(), SHAPE, 0)
    some = np.array([4, 1])
    part = {name: leaf[some] for name, leaf in batch.items()}
    whole = hierarchy.elbo_loss(model, state.params, batch, KEY)["loss"]
    found = hierarchy.elbo_loss(model, state.params, part, KEY)["loss"]
    np.testing.assert_allclose(found, jnp.asarray(whole)[some], rtol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"nll_samples": 0}, "nll_samples=0"),
        ({"free_bits": -1.0}, "free_bits=-1.0"),
        ({"net": Ladder(patch=3)}, "multiples of 3"),
        ({"net": DrawNet(glimpses=0)}, "glimpses=0"),
    ],
)
def test_what_cannot_work_is_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make_task(**kwargs)


def test_draw_trains_by_its_glimpses():
    task = make_task(DRAW, likelihood=discretized_logistic(), classes=2, nll_samples=25)
    batch, losses = make_batch(16), []
    state = task.init(KEY, batch)
    for step in range(60):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, step))
        losses.append(task.finish(jax.device_get(sums))["loss"])
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1.0
    found = task.finish(jax.device_get(task.score_step(state, batch, KEY)))
    assert found["kl"] == pytest.approx(sum(found[f"kl/{n}"] for n in range(3)), rel=1e-5)
    assert found["nll_bits_per_dim"] == pytest.approx(found["nll"] / (16 * np.log(2)))


def test_a_class_out_of_range_never_trains_silently():
    task = make_task(DRAW, classes=2)
    batch = make_batch() | {"label": np.full(6, 2, np.int32)}
    state = task.init(KEY, make_batch())
    assert np.isnan(task.train_step(state, batch, KEY)[1]["loss"])
