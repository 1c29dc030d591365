import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings

from jaxseg import labels, losses
from tests.jaxseg import reference
from tests.jaxseg.reference import CLASSES, labelled

WEIGHTS = (0.5, 2.0, 0.0)

# Ours beside the same computed pixel by pixel in numpy.
PAIRS = {
    "cross_entropy": (losses.cross_entropy(), reference.cross_entropy),
    "smoothed": (
        losses.cross_entropy(smoothing=0.1),
        lambda x, t: reference.cross_entropy(x, t, smoothing=0.1),
    ),
    "weighted": (
        losses.cross_entropy(class_weights=WEIGHTS),
        lambda x, t: reference.cross_entropy(x, t, WEIGHTS),
    ),
    "smoothed_weighted": (
        losses.cross_entropy(0.2, WEIGHTS),
        lambda x, t: reference.cross_entropy(x, t, WEIGHTS, smoothing=0.2),
    ),
    "focal": (losses.focal(), lambda x, t: reference.focal(x, t, 2.0)),
    "top_k": (losses.top_k(0.3), lambda x, t: reference.top_k(x, t, 0.3)),
    "dice": (losses.dice(), lambda x, t: reference.dice(x, t, 1.0)),
    "bare_dice": (losses.dice(smooth=0.0), lambda x, t: reference.dice(x, t, 0.0)),
    "generalised_dice": (losses.generalised_dice(), reference.generalised_dice),
    "tversky": (
        losses.tversky(0.3, 0.7, 1.0, 1.5),
        lambda x, t: reference.tversky(x, t, 0.3, 0.7, 1.0, 1.5),
    ),
    "bare_tversky": (
        losses.tversky(0.0, 1.0, smooth=0.0),
        lambda x, t: reference.tversky(x, t, 0.0, 1.0, 0.0),
    ),
    "lovasz": (losses.lovasz_softmax(), reference.lovasz),
    "boundary": (losses.boundary(), reference.boundary),
    "weighted_sum": (
        losses.weighted((losses.cross_entropy(), losses.dice()), (1.0, 0.5)),
        lambda x, t: reference.cross_entropy(x, t) + 0.5 * reference.dice(x, t, 1.0),
    ),
}
COMPILED = {
    name: jax.jit(lambda x, t, loss=loss: loss(x, labels.truth(t, CLASSES)))
    for name, (loss, _) in PAIRS.items()
}
GRADIENTS = {
    name: jax.jit(jax.grad(lambda x, t, loss=loss: loss(x, labels.truth(t, CLASSES)).sum()))
    for name, (loss, _) in PAIRS.items()
}


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=30)
@given(data=labelled())
def test_losses_equal_the_definition(name, data):
    logits, ids = data
    np.testing.assert_allclose(
        COMPILED[name](logits, ids), PAIRS[name][1](logits, ids), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=10)
@given(data=labelled())
def test_gradients_are_finite_and_blind_to_ignored_pixels(name, data):
    logits, ids = data
    gradient = np.asarray(GRADIENTS[name](logits, ids))
    assert np.isfinite(gradient).all()
    assert not gradient[ids == 255].any()


@pytest.mark.parametrize("bad", [-1, CLASSES, 254, 256])
@pytest.mark.parametrize("name", PAIRS)
def test_an_id_outside_the_contract_poisons_its_example_and_its_gradient(name, bad):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(*reference.SHAPE, CLASSES)).astype(np.float32)
    ids = rng.integers(0, CLASSES, reference.SHAPE)
    ids[1, 2, 3] = bad
    loss = np.asarray(COMPILED[name](logits, ids))
    assert np.isfinite(loss[0])
    assert np.isnan(loss[1])
    gradient = np.asarray(GRADIENTS[name](logits, ids))
    assert np.isnan(gradient[1]).any()


@pytest.mark.parametrize("name", sorted(n for n in PAIRS if not n.startswith("smoothed")))
def test_a_class_that_is_ruled_out_and_not_true_costs_nothing(name):
    """The same as where it is as good as impossible, and no gradient moves its logit."""
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(*reference.SHAPE, CLASSES)).astype(np.float32)
    ids = rng.choice([0, 1, 255], reference.SHAPE)
    out = rng.random(reference.SHAPE) < 0.5
    logits[out, 2] = -80.0
    logits[ids == 255] = -80.0  # as where a net masks out the ignored pixels themselves
    logits[ids == 255, 1] = 0.0
    ruled = np.where(logits == -80.0, -np.inf, logits)
    np.testing.assert_allclose(
        COMPILED[name](ruled, ids), PAIRS[name][1](logits, ids), rtol=2e-5, atol=2e-5
    )
    gradient = np.asarray(GRADIENTS[name](ruled, ids))
    np.testing.assert_allclose(gradient, GRADIENTS[name](logits, ids), atol=1e-6)
    assert not gradient[out, 2].any()


def test_cross_entropy_beside_a_ruled_out_class_by_hand():
    """Probabilities 1/4 and 3/4 of two classes: -log of each, and p - target halved."""
    logits = np.array([[[[0.0, np.log(3), -np.inf]] * 2]], np.float32)
    ids = np.array([[[0, 1]]])
    loss = COMPILED["cross_entropy"](logits, ids)
    np.testing.assert_allclose(loss, [(np.log(4) + np.log(4 / 3)) / 2], rtol=1e-6)
    np.testing.assert_allclose(
        GRADIENTS["cross_entropy"](logits, ids)[0, 0],
        [[-0.375, 0.375, 0.0], [0.125, -0.125, 0.0]],
        atol=1e-6,
    )
    # The true class is ruled out: no pixel of weight 0 makes that a fault.
    logits[..., 0, :] = [0.0, -np.inf, -np.inf]
    ids = np.array([[[2, 0]]])
    for name, loss in {
        "weighted": losses.cross_entropy(class_weights=WEIGHTS),
        "focal": losses.focal(class_weights=WEIGHTS),
    }.items():
        total = lambda x, loss=loss: loss(x, labels.truth(ids, CLASSES)).sum()
        value, gradient = jax.value_and_grad(total)(logits)
        share = 1.0 if name == "weighted" else 0.75**2
        np.testing.assert_allclose(value, share * np.log(4), rtol=1e-5)
        assert np.isfinite(gradient).all()
    assert np.isposinf(COMPILED["cross_entropy"](logits, ids)).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_an_ignored_pixel_has_no_cross_entropy(smoothing):
    truth = labels.truth(np.array([[[0, 255]]]), CLASSES)
    entropy = losses.pixel_cross_entropy(np.zeros((1, 1, 2, CLASSES)), truth, smoothing)
    np.testing.assert_allclose(entropy, [[[np.log(CLASSES), 0.0]]], rtol=1e-6)


def test_tversky_of_equal_weights_is_dice_with_twice_the_smooth():
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(*reference.SHAPE, CLASSES)).astype(np.float32)
    truth = labels.truth(rng.integers(0, CLASSES, reference.SHAPE), CLASSES)
    theirs = losses.dice(smooth=2.0)(logits, truth)
    np.testing.assert_allclose(losses.tversky()(logits, truth), theirs, rtol=1e-5)


def test_tversky_and_top_k_by_default():
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(*reference.SHAPE, CLASSES)).astype(np.float32)
    ids = rng.integers(0, CLASSES, reference.SHAPE)
    terms = (losses.tversky(), losses.top_k(), losses.weighted((losses.top_k(0.25),) * 2))
    run = jax.jit(lambda truth: [loss(logits, truth) for loss in terms])
    tversky, top_k, twice = run(labels.truth(ids, CLASSES))
    expected = reference.tversky(logits, ids, 0.5, 0.5, 1.0, 1.0)
    np.testing.assert_allclose(tversky, expected, rtol=1e-5)
    np.testing.assert_allclose(top_k, reference.top_k(logits, ids, 0.25), rtol=1e-5)
    np.testing.assert_allclose(twice, 2 * top_k, rtol=1e-6)


def test_cross_entropy_is_optax_s():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(*reference.SHAPE, CLASSES)).astype(np.float32)
    ids = rng.integers(0, CLASSES, reference.SHAPE)
    theirs = optax.softmax_cross_entropy_with_integer_labels(logits, ids).mean((1, 2))
    np.testing.assert_allclose(COMPILED["cross_entropy"](logits, ids), theirs, rtol=1e-5)


def test_lovasz_of_certain_predictions_is_one_minus_iou():
    rng = np.random.default_rng(2)
    ids = rng.integers(0, CLASSES, reference.SHAPE)
    guess = np.where(rng.random(ids.shape) < 0.3, (ids + 1) % CLASSES, ids)
    logits = 1e4 * np.eye(CLASSES, dtype=np.float32)[guess]
    iou = [
        np.mean([((t == k) & (g == k)).sum() / ((t == k) | (g == k)).sum() for k in range(CLASSES)])
        for t, g in zip(ids, guess, strict=True)
    ]
    np.testing.assert_allclose(COMPILED["lovasz"](logits, ids), 1 - np.array(iou), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(set(PAIRS) - {"boundary"}))
def test_a_perfect_prediction_costs_nothing(name):
    ids = np.random.default_rng(3).integers(0, CLASSES, reference.SHAPE)
    logits = 60.0 * np.eye(CLASSES, dtype=np.float32)[ids]
    if name.startswith("smoothed"):
        return  # a smoothed target is never met
    np.testing.assert_allclose(COMPILED[name](logits, ids), 0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.cross_entropy(smoothing=1.5), "smoothing"),
        (lambda: losses.focal(gamma=-1.0), "gamma"),
        (lambda: losses.top_k(share=2.0), "share"),
        (lambda: losses.top_k(share=0.0), "no pixel would train"),
        (lambda: losses.cross_entropy(smoothing=-0.1), "smoothing"),
        (lambda: losses.weighted(()), "0 terms with 0 weights"),
        (lambda: losses.weighted((losses.dice(),), (1.0, 2.0)), "1 terms with 2 weights"),
    ],
)
def test_arguments_that_cannot_be_meant(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, 2.0, -1.0)])
def test_class_weights_must_be_one_per_class(weights):
    loss = losses.cross_entropy(class_weights=weights)
    ids = np.zeros((1, 2, 2), int)
    with pytest.raises(ValueError, match="3 numbers"):
        loss(np.zeros((1, 2, 2, 3), np.float32), labels.truth(ids, 3))
