import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.nets.draw import DrawNet

SHAPE, GLIMPSES, LATENTS, HIDDEN = (2, 3, 1), 3, 2, 4


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def perturbed(variables):
    """Parameters away from zero, so that each of them matters."""
    leaves, structure = jax.tree.flatten(variables)
    rng = np.random.default_rng(1)
    return structure.unflatten([rng.normal(0.0, 0.7, leaf.shape).astype("f4") for leaf in leaves])


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def lstm(params, carry, inputs):
    cell, hidden = carry
    gates = np.split(dense(params, np.concatenate([*inputs, hidden], -1)), 4, -1)
    cell = sigmoid(gates[1] + 1.0) * cell + sigmoid(gates[0]) * np.tanh(gates[2])
    return cell, sigmoid(gates[3]) * np.tanh(cell)


def reference(params, noise, x, condition):
    """DRAW without attention, section 2.1 of Gregor et al. 2015, a glimpse after another."""
    rows, step = len(noise), params["glimpse"]
    spread = lambda name: np.broadcast_to(params[name], (rows, *params[name].shape))
    encoder = np.zeros((rows, HIDDEN)), None if x is None else spread("encoder_start")
    decoder, canvas = (np.zeros((rows, HIDDEN)), spread("decoder_start")), spread("canvas_start")
    canvases, kls, ratios = [], [], []
    for z in np.split(noise, GLIMPSES, axis=1):
        if x is not None:
            both = np.concatenate([x, x - sigmoid(canvas)], -1).reshape(rows, -1)
            encoder = lstm(step["encoder"], encoder, [both, decoder[1], condition])
            mean, log_std = np.split(dense(step["posterior"], encoder[1]), 2, -1)
            z = mean + np.exp(log_std) * z
            q = stats.norm(mean, np.exp(log_std))
            kls.append(0.5 * (mean**2 + np.exp(2 * log_std) - 2 * log_std - 1).sum(-1))
            ratios.append((stats.norm.logpdf(z) - q.logpdf(z)).sum(-1))
        decoder = lstm(step["decoder"], decoder, [z, condition])
        canvas = canvas + dense(step["write"], decoder[1]).reshape(canvas.shape)
        canvases.append(canvas)
    return np.array(canvases), np.transpose(kls), np.transpose(ratios)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype("f4")
    return draw(5, GLIMPSES * LATENTS), sigmoid(draw(5, *SHAPE)), draw(5, 2)


@pytest.fixture(scope="module")
def params(inputs):
    net = DrawNet(GLIMPSES, LATENTS, HIDDEN)
    noise, x, condition = inputs
    start = lambda key: net.init(key, noise, SHAPE, x, condition)
    return perturbed(jax.eval_shape(start, jax.random.key(0))["params"])


def apply(params, *arguments, **options):
    net = DrawNet(GLIMPSES, LATENTS, HIDDEN)
    noise, *rest = arguments
    run = jax.jit(lambda p: net.apply({"params": p}, noise, SHAPE, *rest, **options))
    return jax.device_get(run(params))


def test_inference_is_the_recurrence_of_the_paper(params, inputs):
    noise, x, condition = inputs
    canvases, kls, ratios = reference(params, noise, x, condition)
    drawn, kl, ratio = apply(params, noise, x, condition, history=True)
    np.testing.assert_allclose(drawn, canvases, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(kl, kls, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(ratio, ratios, rtol=2e-5, atol=2e-5)
    last, _, _ = apply(params, noise, x, condition)
    np.testing.assert_array_equal(last, drawn[-1])


def test_generation_takes_the_noise_as_latents(params, inputs):
    noise, _, condition = inputs
    canvases, _, _ = reference(params, noise, None, condition)
    drawn, kl, ratio = apply(params, noise, None, condition, history=True)
    net = DrawNet(GLIMPSES, LATENTS, HIDDEN)
    shown = net.apply({"params": params}, noise, SHAPE, condition, method="canvases")
    np.testing.assert_allclose(shown, drawn, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(drawn, canvases, rtol=2e-5, atol=2e-5)
    assert not kl.any()
    assert not ratio.any()


@pytest.mark.parametrize("sizes", [(2, 0), (0, 3), (2, 3)])
def test_attention_reads_and_writes_patches(sizes):
    net = DrawNet(2, LATENTS, HIDDEN, *sizes)
    noise, x = jnp.ones((4, 2 * LATENTS)), jnp.ones((4, *SHAPE))
    start = lambda: net.init(jax.random.key(0), noise, SHAPE, x)
    step = jax.eval_shape(start)["params"]["glimpse"]
    read = 2 * (sizes[0] ** 2 if sizes[0] else np.prod(SHAPE))
    written = sizes[1] ** 2 if sizes[1] else np.prod(SHAPE)
    assert step["encoder"]["kernel"].shape == (read + 2 * HIDDEN, 4 * HIDDEN)
    assert step["write"]["kernel"].shape == (HIDDEN, written)
    windows = {"read_window", "write_window"} & step.keys()
    assert len(windows) == (sizes[0] > 0) + (sizes[1] > 0)
    assert all(step[name]["kernel"].shape == (HIDDEN, 5) for name in windows)


def test_documented_defaults():
    net = DrawNet()
    found = net.glimpses, net.latents, net.hidden, net.read_size, net.write_size, net.dtype
    assert found == (10, 8, 128, 0, 0, jnp.float32)
    assert net.size(SHAPE) == 80


@pytest.mark.parametrize(
    "sizes", [(0, 1, 1, 0, 0), (1, 0, 1, 0, 0), (1, 1, 0, 0, 0), (1, 1, 1, -1, 0), (1, 1, 1, 0, -1)]
)
def test_sizes_that_cannot_work_are_refused(sizes):
    with pytest.raises(ValueError, match="must be at least 1, read_size and write_size"):
        DrawNet(*sizes).size(SHAPE)


def test_sizes_of_one_work():
    net = DrawNet(1, 1, 1, 1, 1)
    start = lambda: net.init(jax.random.key(0), jnp.ones((1, 1)), SHAPE)
    jax.eval_shape(start)
