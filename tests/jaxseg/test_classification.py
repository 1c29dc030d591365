import jax
import numpy as np
import optax
import pytest

from jaxseg import classification, pictures, training
from jaxseg.nets.cnn import CNN
from tests.jaxseg.optimizers import adam

K, SIDE, ROWS = 3, 8, 12
EXAMPLE = {
    "image": jax.ShapeDtypeStruct((SIDE, SIDE, 3), np.uint8),
    "label": jax.ShapeDtypeStruct((), np.int32),
}
KEY = jax.random.key(0)


def make_batch():
    """Images of one colour per class; the last three rows only fill up the batch."""
    label = np.arange(ROWS, dtype=np.int32) % K
    image = np.broadcast_to(np.eye(K)[label][:, None, None] * 200, (ROWS, SIDE, SIDE, 3))
    return {
        "image": image.astype(np.uint8),
        "label": label,
        "index": np.arange(ROWS, dtype=np.int32),
        "mask": np.arange(ROWS) < 9,
    }


@pytest.fixture(scope="module")
def trained():
    """A compiled task and its state after 60 steps, with the sums of the last."""
    net = CNN(widths=(4, 4), hidden=8)
    task = classification.classification(net, adam(1e-2), EXAMPLE, K, names=("a", "b", "c"))
    names = ("init", "train_step", "eval_step", "figures")
    task = task._replace(**{name: jax.jit(getattr(task, name)) for name in names})
    batch = make_batch()
    state = task.init(KEY, batch)
    for number in range(60):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, number))
    return task, state, jax.device_get(sums)


def test_the_founding_net_learns_to_classify(trained):
    task, state, sums = trained
    metrics = task.finish(jax.device_get(task.eval_step(state, make_batch(), KEY)))
    assert metrics["accuracy"] == metrics["class_accuracy"] == metrics["recall/b"] == 1.0
    assert sums["count"] == 9
    assert metrics.keys() == {
        *("loss", "accuracy", "class_accuracy", "calibration_error"),
        *("recall/a", "recall/b", "recall/c"),
    }


def test_a_label_outside_the_contract_makes_the_loss_nan(trained):
    task, state, _ = trained
    batch = make_batch()
    batch["label"][1] = K
    assert np.isnan(task.eval_step(state, batch, KEY)["loss"])


def test_figures_frame_right_and_wrong_images(trained):
    task, state, _ = trained
    batch = make_batch()
    batch["label"][1] = 2  # the image is of class 1
    shown = np.asarray(task.figures(state, batch, KEY)["predictions"])
    assert shown.shape == (ROWS, SIDE + 4, SIDE + 4, 3)
    np.testing.assert_array_equal(shown[:, 2:-2, 2:-2], batch["image"])
    for row, colour in ((0, pictures.RIGHT), (1, pictures.WRONG)):
        for edge in (shown[row, :2], shown[row, -2:], shown[row, :, :2], shown[row, :, -2:]):
            np.testing.assert_array_equal(edge, np.broadcast_to(np.uint8(colour), edge.shape))


class Fixed:
    """A net whose logits are the first pixel; scaled as the net sees it."""

    def apply(self, variables, x, index, **options):
        return variables["params"] * x[:, 0, 0]


def test_loss_and_sums_by_hand():
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 255, (4, 1, 1, 3)).astype(np.uint8),
        "label": np.int32([0, 1, 2, 2]),
        "index": np.arange(4, dtype=np.int32),
        "mask": np.array([True, True, True, False]),
    }
    model = classification.Model(net=Fixed(), classes=K, smoothing=0.3, names=())
    run = jax.jit(lambda: classification.loss_and_sums(model, np.float32(2.0), batch))
    loss, sums = jax.device_get(run())
    logits = 2.0 * (batch["image"][:, 0, 0] / 127.5 - 1.0)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = 0.7 * np.eye(K)[batch["label"]] + 0.1
    terms = -(target * log_p).sum(-1)[:3]
    assert loss == pytest.approx(terms.sum() / 4, rel=1e-5)  # rows that fill up add 0
    assert sums["loss"] == pytest.approx(terms.sum(), rel=1e-5)
    assert sums["count"] == 3
    expected = np.zeros((K, K))
    np.add.at(expected, (batch["label"][:3], logits.argmax(-1)[:3]), 1)
    np.testing.assert_array_equal(sums["confusion"], expected)
    assert sums["calibration"]["pixels"].sum() == 3
    metrics = classification.finish(model, sums)
    assert metrics["loss"] == pytest.approx(terms.mean(), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(np.trace(expected) / 3)


def test_targets_are_not_smoothed_by_default():
    task = classification.classification(Fixed(), optax.sgd(0.1), EXAMPLE, K)
    batch = {
        "image": np.full((1, 1, 1, 3), [[255, 0, 51]], np.uint8),
        "label": np.int32([2]),
        "index": np.zeros(1, np.int32),
        "mask": np.ones(1, bool),
    }
    state = training.init_state(optax.sgd(0.1), {"params": np.float32(1.0)})
    loss = jax.jit(task.eval_step)(state, batch, KEY)["loss"]
    assert loss == pytest.approx(np.log(np.exp([1, -1, -0.6]).sum()) + 0.6, rel=1e-5)


def test_the_recall_of_a_class_without_images_is_nan():
    model = classification.Model(net=None, classes=K, smoothing=0.0, names=())
    sums = {"loss": 1.0, "count": 2.0, "confusion": np.diag([1.0, 1.0, 0.0])}
    calibration = {name: np.zeros(15) for name in ("pixels", "confidence", "correct")}
    metrics = classification.finish(model, sums | {"calibration": calibration})
    assert metrics["recall/0"] == 1.0
    assert np.isnan(metrics["recall/2"])


@pytest.mark.parametrize(
    ("example", "classes", "message"),
    [
        ({}, K, "`image` uint8"),
        ({"image": EXAMPLE["image"]}, K, "integer `label`"),
        (EXAMPLE | {"label": jax.ShapeDtypeStruct((), np.float32)}, K, "integer `label`"),
        (EXAMPLE | {"label": jax.ShapeDtypeStruct((1,), np.int32)}, K, "integer `label`"),
        (EXAMPLE, 1, "at least 2"),
    ],
)
def test_examples_and_classes_that_do_not_fit_are_refused(example, classes, message):
    with pytest.raises(ValueError, match=message):
        classification.classification(CNN(), optax.adam(1e-2), example, classes)
