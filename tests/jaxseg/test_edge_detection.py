import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg import edge_detection
from jaxseg.nets.edge_net import EdgeNet
from tests.jaxseg.optimizers import adam

HEIGHT, WIDTH = 13, 18
NET = EdgeNet(widths=(4, 8), side=4, groups=2)
EXAMPLE = {
    "image": jax.ShapeDtypeStruct((HEIGHT, WIDTH, 3), np.uint8),
    "edges": jax.ShapeDtypeStruct((HEIGHT, WIDTH, 1), np.uint8),
}
KEY = jax.random.key(0)


def batch(seed=0, rows=2):
    """Discs on noise, with their outlines as edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius = np.hypot(y - 6, x - rng.integers(7, 11, rows)[:, None, None])
    shape = (rows, HEIGHT, WIDTH, 3)
    image = np.where(radius < 4, 180, 70)[..., None] + rng.integers(-9, 10, shape)
    edges = (np.abs(radius - 4) < 0.6)[..., None] * 255
    return {
        "image": jnp.asarray(image, jnp.uint8),
        "edges": jnp.asarray(edges, jnp.uint8),
        "index": jnp.arange(rows),
        "mask": jnp.ones(rows, bool),
    }


def detector(**options):
    return edge_detection.edge_detection(NET, adam(1e-2), EXAMPLE, **options)


@pytest.fixture(scope="module")
def trained():
    """A task, its state after 80 steps, the metrics before and after, its compiled eval_step."""
    task, data = detector(), batch()
    state = jax.jit(task.init)(KEY, data)
    step, evaluate = jax.jit(task.train_step), jax.jit(task.eval_step)
    _, first = step(state, data, KEY)
    for _ in range(80):
        state, sums = step(state, data, KEY)
    return task, state, task.finish(first), task.finish(sums), evaluate


def test_training_lowers_the_loss_and_finds_the_outlines(trained):
    task, state, before, after, evaluate = trained
    assert after["loss"] < 0.5 * before["loss"]
    data = batch()
    assert task.finish(jax.device_get(evaluate(state, data, KEY)))["edge_f"] > 0.9

    @jax.jit
    def shown(state):
        return task.predict(state, data, KEY)["strength"], task.figures(state, data, KEY)

    strength, parts = jax.device_get(shown(state))
    assert strength.shape == (2, HEIGHT, WIDTH)  # padded inside, and cropped
    edge = np.asarray(data["edges"][..., 0]) > 0
    assert strength[edge].mean() > strength[~edge].mean() + 0.4
    assert list(parts) == ["edges/annotators", "edges/image", "edges/prediction"]
    np.testing.assert_array_equal(parts["edges/image"], data["image"])
    np.testing.assert_array_equal(parts["edges/annotators"], data["edges"])
    np.testing.assert_array_equal(parts["edges/prediction"][..., 0], strength)


def test_sums_of_parts_are_the_sums_of_the_whole(trained):
    _, state, _, _, evaluate = trained
    data = batch()
    whole = evaluate(state, data, KEY)
    parts = [evaluate(state, data | {"mask": jnp.arange(2) == row}, KEY) for row in range(2)]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-5), whole, *parts)


def test_the_net_sees_the_image_in_minus_one_to_one_and_the_features():
    double = lambda example: 2.0 * example["image"][..., :1]
    model = edge_detection.Model(net=None, features=(double,), consensus=0.3, balance=1.1)
    x = np.asarray(edge_detection.net_input(model, batch()))
    image = np.asarray(batch()["image"])
    np.testing.assert_allclose(x[..., :3], image / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(x[..., 3], image[..., 0] / 127.5, atol=1e-6)


MODEL = edge_detection.Model(net=None, features=(), consensus=0.3, balance=1.1)
balanced_loss = jax.jit(lambda logits, edges: edge_detection.balanced_loss(MODEL, logits, edges))


def test_loss_against_the_papers_formula():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    # 76 / 255 is just below the consensus of 0.3, 77 / 255 just above.
    edges = rng.choice([0, 0, 0, 40, 76, 77, 120, 255], (2, 5, 6, 1)).astype(np.uint8)
    found = balanced_loss(logits, edges)
    for row in range(2):
        share, p = edges[row, ..., 0] / 255, 1 / (1 + np.exp(-logits[row].astype(float)))
        positive, negative = share >= 0.3, share == 0
        plus, minus = positive.sum(), negative.sum()
        beta, alpha = minus / (plus + minus), 1.1 * plus / (plus + minus)
        total = sum(
            -beta * np.log(p[..., k])[positive].sum()
            - alpha * np.log(1 - p[..., k])[negative].sum()
            for k in range(3)
        )
        np.testing.assert_allclose(found[row], total / 3 / (plus + minus), rtol=1e-4)


class Brightness:
    """A net whose logit is the first channel, times a parameter."""

    def init(self, rng, x):
        return {"params": jnp.float32(2.0)}

    def apply(self, variables, x):
        return variables["params"] * x[..., :1]


def test_consensus_and_balance_by_default_are_those_of_rcf():
    task = edge_detection.edge_detection(Brightness(), adam(1e-2), EXAMPLE)
    data = batch(rows=5)
    shares = np.random.default_rng(0).choice([0, 0, 40, 76, 77, 255], data["edges"].shape)
    data["edges"] = jnp.asarray(shares, jnp.uint8)
    state = task.init(KEY, data)
    _, sums = jax.jit(task.train_step)(state, data, KEY)
    logits = 2.0 * (np.asarray(data["image"], np.float32)[..., :1] / 127.5 - 1)
    expected = edge_detection.balanced_loss(MODEL, jnp.asarray(logits), data["edges"])
    assert float(sums["loss"]) == pytest.approx(float(expected.sum()), rel=1e-4)
    shown = jax.eval_shape(task.figures, state, data, KEY)["edges/prediction"]
    assert shown.shape == (4, HEIGHT, WIDTH, 1)  # of the first four


def test_what_too_few_marked_weighs_nothing():
    edges = np.full((1, 5, 6, 1), 40, np.uint8)
    edges[0, 0, 0], edges[0, 3, 3] = 255, 0
    logits = np.zeros((1, 5, 6, 1), np.float32)
    slope = jax.jit(jax.grad(lambda x: edge_detection.balanced_loss(MODEL, x, edges)[0]))
    gradient = np.asarray(slope(logits))[0, ..., 0]
    assert set(map(tuple, np.argwhere(gradient))) == {(0, 0), (3, 3)}
    nothing = balanced_loss(np.zeros((2, 5, 6, 3), np.float32), np.zeros((2, 5, 6, 1), np.uint8))
    assert nothing.tolist() == [0.0, 0.0]  # images without edges


def test_the_consensus_is_the_least_share_of_an_edge():
    share = np.float32([0.0, 0.2, 0.5, 0.7])
    assert edge_detection.is_edge(share, 0.5).tolist() == [False, False, True, True]
    assert edge_detection.is_edge(share, 0.0).tolist() == [False, True, True, True]


def test_counts_of_pixels_by_hand():
    """A column drawn by all, one drawn by few; ridges of three strengths."""
    height, width = 120, 160  # the diagonal is 200, so pixels may lie 1.5 -> 2 apart
    assert round(edge_detection.TOLERANCE * 200) == 2
    edges = np.zeros((2, height, width, 1), np.uint8)
    edges[:, :, 40], edges[:, :, 80] = 255, 51  # the second by a fifth of the annotators
    strength = np.full((2, height, width), 1e-4)
    for column, value in ((42, 0.9), (82, 0.5), (120, 0.3)):
        bump = value * np.exp(-0.5 * ((np.arange(width) - column) / 2.0) ** 2)
        strength = np.maximum(strength, bump[None, None, :])
    logits = np.log(strength / (1 - strength)).astype(np.float32)[..., None]
    data = {"edges": edges, "mask": np.array([True, False])}
    count = jax.jit(lambda x: edge_detection.edge_sums(MODEL, x, data))
    sums = {key: np.asarray(value) for key, value in count(logits).items()}
    for level, columns, right, found in (
        (0.2, 3, 2, 1),
        (0.4, 2, 2, 1),
        (0.6, 1, 1, 1),
        (0.95, 0, 0, 0),
    ):
        at = int(np.argmin(np.abs(edge_detection.LEVELS - level)))
        got = {key: value[at] / height for key, value in sums.items()}
        assert got == {"predicted": columns, "right": right, "found": found, "drawn": 1}, level


def test_near_is_a_dilation_by_a_square():
    marks = np.random.default_rng(0).random((2, 9, 11)) < 0.05
    found = jax.jit(edge_detection.near, static_argnums=1)(marks, 2)
    expected = [ndimage.binary_dilation(mark, np.ones((5, 5))) for mark in marks]
    np.testing.assert_array_equal(found, expected)


def test_metrics_of_sums_by_hand():
    zeros = np.zeros(19)
    sums = {"loss": 6.0, "count": 4.0, "found": zeros.copy(), "drawn": zeros + 10}
    sums |= {"right": zeros.copy(), "predicted": zeros.copy()}
    nothing = edge_detection.finish(sums)
    assert nothing == {"loss": 1.5, "edge_f": 0.0, "edge_threshold": 0.05}
    for at, found, right, predicted in ((2, 8, 12, 40), (5, 5, 6, 8), (9, 2, 2, 2)):
        sums["found"][at], sums["right"][at], sums["predicted"][at] = found, right, predicted
    # F: 2 * .8 * .3 / 1.1 = .436, 2 * .5 * .75 / 1.25 = .6, 2 * .2 * 1 / 1.2 = .333.
    best = edge_detection.finish(sums)
    assert best["edge_f"] == pytest.approx(0.6)
    assert best["edge_threshold"] == pytest.approx(0.3)
    assert edge_detection.finish({"loss": 6.0, "count": 4.0}) == {"loss": 1.5}


@pytest.mark.parametrize("options", [{"consensus": 0.0}, {"consensus": 1.1}, {"balance": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="consensus"):
        detector(**options)
    detector(consensus=1.0)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({}, "image"),
        ({"image": EXAMPLE["image"]}, "edges"),
        (EXAMPLE | {"edges": EXAMPLE["image"]}, "edges"),
        (EXAMPLE | {"edges": jax.ShapeDtypeStruct((HEIGHT, WIDTH, 1), np.float32)}, "edges"),
    ],
)
def test_examples_without_an_array_are_refused(example, message):
    with pytest.raises(ValueError, match=f"needs examples with `{message}`"):
        edge_detection.edge_detection(NET, adam(1e-2), example)
