import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, logsumexp

from jaxgen import autoregressive
from jaxgen.likelihoods import pixels
from jaxgen.likelihoods.pixels import binary, codes, logistic_mixture, softmax
from tests.jaxgen.nets.test_masked import normal

KEY = jax.random.key(0)


def compiled(model):
    """A likelihood with its functions compiled."""
    names = ("parameters", "log_prob", "log_masses")
    return model._replace(**{name: jax.jit(getattr(model, name)) for name in names})


def draw(model, parameters, uniform):
    """`pixels.draw`, compiled as a whole."""
    return jax.jit(partial(pixels.draw, model))(parameters, uniform)


MODELS = {
    "binary": compiled(binary()),
    "3 levels": compiled(softmax(3)),
    "256 levels": compiled(softmax()),
    "mixture": compiled(logistic_mixture(3)),
    "one logistic": compiled(logistic_mixture(1)),
}
EDGES = np.concatenate([[-np.inf], (np.arange(1, 256) - 0.5) / 127.5 - 1, [np.inf]])


def values(model, shape, seed=0):
    return np.random.default_rng(seed).choice(model.levels, shape).astype(np.float32)


def parameters_of(model, shape, seed=0, size=1.0):
    """Conditionals at random values and outputs."""
    outputs = size * normal(*shape[:-1], model.outputs(shape[-1]), seed=seed)
    return model.parameters(values(model, shape, seed), outputs)


def bins(mean, log_scale):
    """Masses of the 256 levels under a logistic, from both tails so that none cancels."""
    lower = stats.logistic.cdf(EDGES, mean, np.exp(log_scale))
    upper = stats.logistic.sf(EDGES, mean, np.exp(log_scale))
    return np.where(EDGES[1:] < mean, np.diff(lower), -np.diff(upper))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [0.3, 3.0])
def test_the_masses_of_all_levels_sum_to_one(name, size):
    model = MODELS[name]
    parameters = parameters_of(model, (40, 3), size=size)
    masses = np.exp(np.asarray(jax.jit(model.log_masses)(parameters), np.float64))
    assert masses.shape == (40, 3, len(model.levels))
    np.testing.assert_allclose(masses.sum(-1), 1, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_log_probability_of_a_level_is_its_mass(name):
    model = MODELS[name]
    parameters = parameters_of(model, (4, 3))
    masses = model.log_masses(parameters)
    for number in {*range(0, len(model.levels), 50), len(model.levels) - 1}:
        x = jnp.full((4, 3), model.levels[number])
        np.testing.assert_allclose(model.log_prob(x, parameters), masses[..., number], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_drawing_inverts_the_distribution_function(name):
    model = MODELS[name]
    parameters = parameters_of(model, (50, 20, 1))
    uniform = np.asarray(jax.random.uniform(KEY, (50, 20, 1)))
    found = np.asarray(draw(model, parameters, uniform))
    masses = np.exp(np.asarray(model.log_masses(parameters)))
    for place in np.ndindex(50, 20, 1):
        below = np.cumsum(masses[place].astype(np.float64))[:-1]
        near = np.abs(below - uniform[place]).min() < 1e-5
        level = np.searchsorted(below, uniform[place], side="right")
        assert near or found[place] == model.levels[level]


def test_ends_of_the_unit_interval_draw_no_level_of_no_mass():
    logits = np.full((200, 256), -1e9, np.float32)
    logits[:, 50:200] = 2 * normal(200, 150)
    for uniform, level in ((0.0, 50), (np.nextafter(np.float32(1), np.float32(0)), 199)):
        found = draw(MODELS["256 levels"], jnp.asarray(logits), jnp.full(200, uniform, jnp.float32))
        assert set(np.asarray(found)) == {softmax().levels[level]}


@pytest.mark.parametrize("name", ["binary", "3 levels", "mixture"])
def test_draws_are_distributed_as_the_masses(name):
    model = MODELS[name]
    parameters = parameters_of(model, (1, 1))[0, 0]
    wanted = np.exp(np.asarray(model.log_masses(parameters), np.float64))
    uniform = jax.random.uniform(KEY, (20_000,))
    drawn = draw(model, jnp.broadcast_to(parameters, (20_000, *parameters.shape)), uniform)
    counts = (np.asarray(drawn)[:, None] == model.levels).sum(0)
    assert counts.sum() == 20_000
    often = 20_000 * wanted > 5
    seen, expected = ([*x[often], x[~often].sum()] for x in (counts, 20_000 * wanted))
    expected = np.maximum(expected, 1e-9) * np.sum(seen) / np.sum(expected)
    assert stats.chisquare(seen, expected).pvalue > 1e-3


def test_binary_logits_are_log_odds():
    logits = normal(7, 1)
    np.testing.assert_allclose(
        binary().log_prob(jnp.ones(7), logits),
        stats.bernoulli.logpmf(1, 1 / (1 + np.exp(-logits[:, 0]))),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        binary().show(jnp.ones(7), logits), 1 / (1 + np.exp(-logits[:, 0])), atol=1e-6
    )


@pytest.mark.parametrize("levels", [2, 3, 10, 100, 256])
def test_a_grey_level_is_rounded_to_a_level_and_scored_by_its_logit(levels):
    model, logits = softmax(levels), normal(1, 16, 16, 1, levels)
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = model.observe(image, None, None)
    level = np.arange(256) * levels // 256
    np.testing.assert_allclose(np.ravel(x), model.levels[level], atol=1e-6)
    wanted = log_softmax(logits.astype(np.float64), -1).reshape(256, levels)
    found = np.ravel(jax.jit(model.log_prob)(x, logits))
    np.testing.assert_allclose(found, wanted[np.arange(256), level], atol=1e-5)
    np.testing.assert_allclose(np.ravel(model.show(x, logits)), level / (levels - 1), atol=1e-6)


def test_a_level_that_is_ruled_out_and_not_seen_costs_nothing():
    """Probabilities 1/4, 0 and 3/4, and the gradient target - p."""
    model = softmax(3)
    logits = jnp.log(jnp.array([0.25, 0.0, 0.75]))
    for level, p in ((0, 0.25), (2, 0.75)):
        x = model.levels[level]
        value, gradient = jax.jit(jax.value_and_grad(model.log_prob, 1))(x, logits)
        np.testing.assert_allclose(value, np.log(p), rtol=1e-6)
        target = np.eye(3)[level]
        np.testing.assert_allclose(gradient, target - [0.25, 0.0, 0.75], atol=1e-6)
    assert np.isneginf(model.log_prob(model.levels[1], logits))


def test_a_component_that_is_ruled_out_is_no_part_of_the_mixture():
    two, three = logistic_mixture(2), logistic_mixture(3)
    outputs = normal(1, 1, 6).reshape(3, 2)  # logits, means and log scales
    more = np.concatenate([outputs, [[-np.inf], [0.3], [-1.0]]], 1, dtype=np.float32)
    x = values(three, (1,))

    def with_gradient(model, outputs):
        total = lambda outputs: model.log_prob(x, model.parameters(x, outputs.ravel())).sum()
        return jax.jit(jax.value_and_grad(total))(outputs)

    (found, slope), (wanted, known) = with_gradient(three, more), with_gradient(two, outputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(slope, np.pad(known, ((0, 0), (0, 1))), atol=1e-6)


def test_outputs_belong_to_channels_in_order():
    outputs = np.arange(12, dtype=np.float32)
    found = softmax(4).parameters(np.zeros((3,)), outputs)
    np.testing.assert_array_equal(found, outputs.reshape(3, 4))
    np.testing.assert_array_equal(binary().parameters(np.zeros(3), outputs[:3])[:, 0], [0, 1, 2])


def test_a_discretised_logistic_against_scipy_and_a_known_value():
    model = MODELS["one logistic"]
    for mean, log_scale in ((0.3, -3.0), (-0.98, -2.0), (0.99, -4.0), (1.3, 0.5)):
        outputs = np.array([2.5, mean, log_scale], np.float32)
        parameters = model.parameters(np.zeros(1, np.float32), outputs)
        found = np.asarray(model.log_masses(parameters))[0]
        wanted = bins(np.float64(np.float32(mean)), log_scale)
        np.testing.assert_allclose(found, np.log(wanted), rtol=3e-5, atol=3e-5)
        assert np.exp(found[[0, 255]]) == pytest.approx(wanted[[0, 255]], rel=3e-5)
    x = np.array([128 / 127.5 - 1], np.float32)
    parameters = model.parameters(x, np.array([2.5, 0.3, -3.0], np.float32))
    assert model.log_prob(x, parameters)[0] == pytest.approx(-7.799214021452246, rel=1e-5)


def joint(outputs, levels, components):
    """PixelCNN++, sections 2.1 and 2.2: log p(r, g, b), one component after another."""
    weights, means, scales, slopes = np.split(
        outputs.astype(np.float64).reshape(-1, components), [1, 4, 7]
    )
    r, g, _ = x = np.array(levels) / 127.5 - 1
    total = []
    for k, weight in enumerate(log_softmax(weights[0])):
        alpha, beta, gamma = np.tanh(slopes[:, k])
        centres = means[:, k] + [0, alpha * r, beta * r + gamma * g]
        masses = [bins(c, s)[v] for c, s, v in zip(centres, scales[:, k], levels, strict=True)]
        total.append(weight + np.log(masses).sum())
    assert x.shape == (3,)
    return logsumexp(total)


@pytest.mark.parametrize("components", [1, 4])
def test_conditionals_of_channels_multiply_to_the_joint_of_pixelcnn(components):
    model, rng = logistic_mixture(components), np.random.default_rng(components)
    parameters = jax.jit(lambda x, outputs: model.log_prob(x, model.parameters(x, outputs)))
    pixels = [*rng.integers(0, 256, (20, 3)), (0, 255, 0), (255, 255, 255), (0, 0, 0)]
    assert model.outputs(3) == 10 * components
    for levels in pixels:
        outputs = rng.normal(size=10 * components).astype(np.float32)
        found = parameters((np.array(levels) / 127.5 - 1).astype(np.float32), outputs)
        wanted = joint(outputs, np.array(levels), components)
        np.testing.assert_allclose(found.sum(), wanted, rtol=1e-4, atol=1e-4)


def test_the_joint_of_two_channels_sums_to_one():
    model, levels = logistic_mixture(2), logistic_mixture(2).levels
    x = np.array(list(itertools.product(levels, levels)), np.float32)
    outputs = np.broadcast_to(0.5 * normal(model.outputs(2)), (len(x), model.outputs(2)))
    found = jax.jit(lambda x: model.log_prob(x, model.parameters(x, outputs)))(x)
    assert np.exp(np.asarray(found, np.float64).sum(-1)).sum() == pytest.approx(1, abs=1e-5)


def test_a_uniform_model_scores_eight_bits():
    net = autoregressive.Model(None, softmax(), (5, 4, 3), 0, 0, True)
    x = softmax().observe(np.arange(60, dtype=np.uint8).reshape(1, 5, 4, 3), None, None)
    nats = -softmax().log_prob(x, np.zeros((1, 5, 4, 3, 256), np.float32))
    np.testing.assert_allclose(nats, np.log(256), rtol=1e-7)
    sums = {"loss": np.float64(7 * 60 * np.log(256)), "count": np.float64(7)}
    assert autoregressive.finish(net, sums)["nll_bits_per_dim"] == pytest.approx(8, abs=1e-12)
    assert autoregressive.finish(net, sums)["nll"] == pytest.approx(60 * 8 * np.log(2))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_outputs_stay_finite(name, size):
    model, x = MODELS[name], values(MODELS[name], (6, 3))
    outputs = size * normal(6, model.outputs(3))
    log_prob = lambda outputs: model.log_prob(x, model.parameters(x, outputs)).sum()
    value, slope = jax.jit(jax.value_and_grad(log_prob))(outputs)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: softmax(1), "2 to 256, got 1"),
        (lambda: softmax(257), "2 to 256, got 257"),
        (lambda: logistic_mixture(0), "at least 1, got 0"),
    ],
)
def test_impossible_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_floor_keeps_a_certain_mixture_finite():
    assert pixels.logistic_mixture().outputs(3) == 5 * 10  # five components
    for options, floor in (((), -7.0), ((-2.0,), -2.0)):
        model = pixels.logistic_mixture(1, *options)
        parameters = model.parameters(np.zeros(1), np.array([0.0, 0.1, -50.0], np.float32))
        assert parameters[0, -1] == floor


def test_codes_are_classes_of_as_many_levels_as_their_channel_has():
    model, levels = codes((5, 4, 2), lambda image: image), (5, 4, 2)
    x = model.observe(np.array([[4, 3, 1], [0, 0, 0]], np.int32), KEY, np.arange(2))
    np.testing.assert_allclose(x, [[1, 0.5, -0.5], [-1, -1, -1]], atol=1e-6)
    np.testing.assert_array_equal(pixels.level_of(x, 5), [[4, 3, 1], [0, 0, 0]])
    outputs = normal(2, model.outputs(3))
    parameters = model.parameters(x, outputs)
    masses = np.exp(model.log_masses(parameters))
    np.testing.assert_allclose(masses.sum(-1), 1, rtol=1e-5)
    for channel, count in enumerate(levels):
        assert (masses[:, channel, count:] == 0).all()
        wanted = log_softmax(outputs.reshape(2, 3, 5)[:, channel, :count], -1)
        found = [model.log_prob(x, parameters)[row, channel] for row in (0, 1)]
        np.testing.assert_allclose(found, [wanted[0, count - 1], wanted[1, 0]], rtol=1e-5)
    uniform = np.full((2, 3), 0.999999, np.float32)
    last = pixels.level_of(pixels.draw(model, parameters, uniform), 5)
    np.testing.assert_array_equal(last, [[4, 3, 1]] * 2)
    with pytest.raises(ValueError, match="codes of 3 channels; these have 1"):
        model.parameters(x[:, :1], outputs[:, :5])
