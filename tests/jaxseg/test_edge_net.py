import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.nets import edge_net

NET = edge_net.EdgeNet(widths=(4, 8), side=4, groups=2)
EXAMPLE = {
    "image": jax.ShapeDtypeStruct((21, 34, 3), np.uint8),
    "edges": jax.ShapeDtypeStruct((21, 34, 1), np.uint8),
}


def batch(seed=0, rows=2):
    """Discs on noise, with their outlines as edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:21, :34]
    radius = np.hypot(y - 10, x - rng.integers(10, 24, rows)[:, None, None])
    image = np.where(radius < 6, 180, 70)[..., None] + rng.integers(-9, 10, (rows, 21, 34, 3))
    edges = (np.abs(radius - 6) < 0.6)[..., None] * 255
    return {
        "image": jnp.asarray(image, jnp.uint8),
        "edges": jnp.asarray(edges, jnp.uint8),
        "index": jnp.arange(rows),
        "mask": jnp.ones(rows, bool),
    }


def detector(**options):
    return edge_net.edge_detector(NET, optax.adam(1e-2), EXAMPLE, **options)


def test_it_learns_outlines_of_any_size():
    task, data, rng = detector(), batch(), jax.random.key(0)
    state = jax.jit(task.init)(rng, data)
    step = jax.jit(task.train_step)
    before = task.finish(jax.device_get(step(state, data, rng)[1]))
    for _ in range(60):
        state, sums = step(state, data, rng)
    assert task.finish(jax.device_get(sums))["loss"] < 0.5 * before["loss"]
    assert task.finish(jax.device_get(task.eval_step(state, data, rng)))["edge_f"] > 0.9
    strength = task.predict(state, data, rng)["strength"]
    assert strength.shape == (2, 21, 34)  # padded inside, and cropped
    edge = np.asarray(data["edges"][..., 0]) > 0
    assert strength[edge].mean() > strength[~edge].mean() + 0.4
    assert task.figures(state, data, rng)["edges"].shape == (2, 3, 21, 34, 3)


def test_sums_of_parts_are_the_sums_of_the_whole():
    task, data, rng = detector(), batch(rows=2), jax.random.key(0)
    state = jax.jit(task.init)(rng, data)
    evaluate = jax.jit(task.eval_step)
    whole = evaluate(state, data, rng)
    parts = [evaluate(state, data | {"mask": jnp.arange(2) == row}, rng) for row in range(2)]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-5), whole, *parts)


def test_loss_against_the_papers_formula():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    edges = rng.choice([0, 0, 0, 40, 120, 255], (2, 5, 6, 1)).astype(np.uint8)
    model = edge_net.Model(None, (), 0.3, 1.1)
    found = edge_net.balanced_loss(model, jnp.asarray(logits), jnp.asarray(edges))
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


def test_what_too_few_marked_weighs_nothing():
    model = edge_net.Model(None, (), 0.3, 1.1)
    edges = jnp.full((1, 4, 4, 1), 40, jnp.uint8).at[0, 0, 0].set(255).at[0, 3, 3].set(0)
    logits = jnp.zeros((1, 4, 4, 1))
    loss = lambda logits: edge_net.balanced_loss(model, logits, edges)[0]
    gradient = np.asarray(jax.grad(loss)(logits))[0, ..., 0]
    assert set(map(tuple, np.argwhere(gradient))) == {(0, 0), (3, 3)}
    nothing = edge_net.balanced_loss(model, logits, jnp.zeros_like(edges))
    assert float(nothing[0]) == 0.0  # an image without edges


def test_difference_convolution_sees_change_alone():
    layer = edge_net.DifferenceConv(6)
    flat = jnp.full((1, 7, 7, 3), 0.8)
    params = layer.init(jax.random.key(0), flat)
    found = layer.apply(params, flat)[0, 1:-1, 1:-1]
    np.testing.assert_allclose(found[..., :3], 0.0, atol=1e-6)
    assert float(jnp.abs(found[..., 3:]).max()) > 0.01


def test_the_default_net_is_small():
    shapes = jax.eval_shape(edge_net.EdgeNet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 100_000


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="consensus"):
        detector(consensus=0.0)
    with pytest.raises(ValueError, match="edges"):
        edge_net.edge_detector(NET, optax.adam(1e-2), {"image": EXAMPLE["image"]})
    with pytest.raises(ValueError, match="image"):
        edge_net.edge_detector(NET, optax.adam(1e-2), {})
    with pytest.raises(ValueError, match="at least 1"):
        edge_net.EdgeNet(side=0).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
