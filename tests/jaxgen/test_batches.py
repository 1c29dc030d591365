import jax
import numpy as np
import optax
import pytest

from jaxgen import batches

IMAGE = jax.ShapeDtypeStruct((4, 6, 1), np.uint8)
LABEL = jax.ShapeDtypeStruct((), np.int64)


def test_shape_of_an_image():
    assert batches.image_shape({"image": IMAGE}, "a net") == (4, 6, 1)
    for label in (LABEL, jax.ShapeDtypeStruct((), np.uint8)):
        assert batches.image_shape({"image": IMAGE, "label": label}, "a net", 3) == (4, 6, 1)


@pytest.mark.parametrize(
    ("example", "classes", "message"),
    [
        ({}, 0, "a net needs examples with `image` uint8"),
        ({"image": jax.ShapeDtypeStruct((4, 6), np.uint8)}, 0, r"have \{'image': 'uint8\[4, 6\]'"),
        ({"image": jax.ShapeDtypeStruct((4, 6, 1), np.float32)}, 0, "float32"),
        ({"image": IMAGE}, 3, "needs examples with an integer `label`"),
        ({"image": IMAGE, "label": jax.ShapeDtypeStruct((2,), np.int32)}, 3, "integer `label`"),
        ({"image": IMAGE, "label": LABEL}, -1, "classes must be 0"),
    ],
)
def test_examples_that_do_not_fit_are_refused(example, classes, message):
    with pytest.raises(ValueError, match=message):
        batches.image_shape(example, "a net", classes)


def test_a_class_out_of_range_is_nan_and_no_other_row():
    for label in (np.array([0, 2, 3, -1, 255]), np.array([0, 2, 3, 128, 255], np.uint8)):
        rows = np.asarray(batches.one_hot_classes({"label": label}, 3))
        np.testing.assert_array_equal(rows[:2], [[1, 0, 0], [0, 0, 1]])
        assert np.isnan(rows[2:]).all()
    assert batches.one_hot_classes({}, 0) is None


def test_sums_leave_out_padding_whatever_it_holds():
    mask = np.array([True, False, True])
    terms = {
        "loss": np.array([1.0, np.nan, 2.0]),
        "shares": np.array([[1.0, 2.0], [np.inf, 0.0], [3.0, 4.0]]),
    }
    sums = batches.masked_sums(terms, mask)
    assert float(sums["loss"]) == 3.0
    np.testing.assert_array_equal(sums["shares"], [4.0, 6.0])
    assert float(sums["count"]) == 2.0


def test_the_average_where_there_is_one():
    params = {"w": np.ones(2)}
    assert batches.ema_params(optax.adam(1.0).init(params), params) is params


def test_samples_show_all_classes_in_turn():
    found = batches.seeds_to_show(3)
    np.testing.assert_array_equal(found["index"], np.arange(64))
    np.testing.assert_array_equal(found["label"], np.arange(64) % 3)
    assert not batches.seeds_to_show(0)["label"].any()


def test_images_as_numbers_and_back():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(batches.unit_range(levels), np.linspace(0, 1, 256), atol=1e-6)
    np.testing.assert_allclose(batches.signed_range(levels), np.linspace(-1, 1, 256), atol=1e-6)
    back = batches.from_signed(batches.signed_range(levels))
    np.testing.assert_allclose(back, batches.unit_range(levels), atol=1e-6)
    np.testing.assert_array_equal(batches.from_signed(np.array([-1.5, 2.0])), [0.0, 1.0])


def test_a_condition_is_beside_every_draw_of_latents():
    z, condition = np.zeros((5, 2, 3), np.float32), np.eye(2, dtype=np.float32)
    found = batches.with_condition(z, condition)
    assert found.shape == (5, 2, 5)
    np.testing.assert_array_equal(found[3, :, 3:], condition)
    assert batches.with_condition(z, None) is z
