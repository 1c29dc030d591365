from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseg import losses, multilabel_losses

K, SHAPE = 2, (2, 5, 6, 2)
MASK = np.ones(2, bool)


@st.composite
def labelled(draw):
    """Logits and labels of a batch, often degenerate: all void, a class absent, void rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(["random", "absent", "void", "void class"]))
    logits = draw(st.sampled_from([0.1, 1.0, 8.0])) * rng.normal(size=SHAPE)
    values = rng.integers(0, 2, SHAPE)
    values[rng.random(SHAPE) < 0.2] = 255
    if kind == "absent":
        values[0, ..., 1] = 0
    if kind == "void":
        values[0] = 255
    if kind == "void class":
        values[..., 0] = 255
    return logits.astype(np.float32), values.astype(np.uint8)


def cross_entropy(logits, values, weights=(1, 1), positive=(1, 1)):
    out = []
    for z, t in zip(logits.astype(float), values, strict=True):
        total = weight = 0.0
        for k in range(K):
            p = 1 / (1 + np.exp(-z[..., k]))
            yes, no = t[..., k] == 1, t[..., k] == 0
            total -= weights[k] * (positive[k] * np.log(p[yes]).sum() + np.log(1 - p[no]).sum())
            weight += weights[k] * (yes | no).sum()
        out.append(total / weight if weight else 0.0)
    return np.array(out)


def dice(logits, values, smooth):
    out = []
    for z, t in zip(logits.astype(float), values, strict=True):
        terms = []
        for k in range(K):
            p, known = 1 / (1 + np.exp(-z[..., k])), t[..., k] != 255
            true = t[..., k] == 1
            if true.any():
                total = p[known].sum() + true.sum()
                terms.append(1 - (2 * p[true].sum() + smooth) / (total + smooth))
        out.append(np.mean(terms) if terms else 0.0)
    return np.array(out)


CROSS_ENTROPY, DICE = multilabel_losses.binary_cross_entropy(), multilabel_losses.binary_dice(0.5)
WEIGHED = multilabel_losses.binary_cross_entropy((0.5, 2.0), (3.0, 1.0))


@partial(jax.jit, static_argnums=0)
def with_gradient(loss, logits, values, mask, ignore=255):
    truth = multilabel_losses.labels(values, ignore, mask)
    mean = lambda logits: jnp.mean(loss(logits, truth))
    return loss(logits, truth), jax.grad(mean)(logits)


def check(loss, reference, drawn):
    logits, values = drawn
    found, grad = with_gradient(loss, logits, values, MASK)
    np.testing.assert_allclose(found, reference(*drawn), rtol=2e-5, atol=2e-6)
    assert np.isfinite(grad).all()
    assert (np.asarray(grad)[values == 255] == 0).all()


@given(labelled())
def test_cross_entropy(drawn):
    check(CROSS_ENTROPY, cross_entropy, drawn)


@given(labelled())
def test_cross_entropy_with_weights(drawn):
    check(WEIGHED, lambda *z: cross_entropy(*z, (0.5, 2.0), (3.0, 1.0)), drawn)


@given(labelled())
def test_dice(drawn):
    check(DICE, lambda *z: dice(*z, 0.5), drawn)


def test_rows_that_only_fill_up_have_loss_0():
    values = np.ones(SHAPE, np.uint8)
    for loss in (CROSS_ENTROPY, DICE):
        found, _ = with_gradient(loss, jnp.zeros(SHAPE), values, np.array([True, False]))
        assert found[0] > 0
        assert found[1] == 0


def test_a_label_outside_of_the_contract_makes_its_example_nan():
    values = np.zeros(SHAPE, np.uint8)
    values[0, 0, 0, 0], values[1, 0, 0, 0] = 2, 7
    for loss in (CROSS_ENTROPY, DICE, losses.weighted((CROSS_ENTROPY, DICE))):
        found, grad = with_gradient(loss, jnp.zeros(SHAPE), values, MASK, 7)
        assert np.isnan(found).tolist() == [True, False]
        assert np.isnan(grad[0]).any()


def test_a_pixel_weight_counts_as_so_many_pixels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 1, 6, 2)).astype(np.float32)
    values = rng.integers(0, 2, logits.shape).astype(np.uint8)
    truth = multilabel_losses.labels(values, 255, MASK[:1])
    weight = np.array([1, 1, 3, 1, 1, 1], np.float32)[None, None, :, None]
    places = [0, 1, 2, 2, 2, 3, 4, 5]
    longer = multilabel_losses.labels(values[:, :, places], 255, MASK[:1])
    for loss in map(jax.jit, (CROSS_ENTROPY, DICE)):
        weighed = loss(logits, truth._replace(valid=truth.valid * weight))
        np.testing.assert_allclose(weighed, loss(logits[:, :, places], longer), rtol=1e-5)


@pytest.mark.parametrize("name", ["class_weights", "positive_weights"])
@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0)])
def test_weights_that_do_not_fit_are_refused(name, weights):
    truth = multilabel_losses.labels(np.zeros(SHAPE, np.uint8), 255, MASK)
    with pytest.raises(ValueError, match=f"{name} must be 2 numbers >= 0"):
        multilabel_losses.binary_cross_entropy(**{name: weights})(jnp.zeros(SHAPE), truth)
