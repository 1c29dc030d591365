import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseg.inference import sliding
from jaxseg.nets.unet import UNet


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    st.sampled_from([1, 4]),
    st.integers(1, 3),
)
def test_what_every_window_sees_alike_comes_back(size, windows, overlap, multiple, batch_size):
    image = np.random.default_rng(0).random((*size, 2)).astype(np.float32)
    window = tuple(4 * side for side in windows)
    seen = set()

    def predict(batch):
        seen.add(batch["image"].shape)
        return {"same": batch["image"], "one": batch["image"][..., 0]}

    parts = list(sliding.strips(predict, {"image": image}, window, overlap, multiple, batch_size))
    tops = [top for top, _ in parts]
    assert tops == sorted(tops)
    assert tops[0] == 0
    found = sliding.whole(iter(parts))
    np.testing.assert_allclose(found["same"], image, atol=1e-6)
    np.testing.assert_allclose(found["one"], image[..., 0], atol=1e-6)
    assert seen == {(batch_size, *window, 2)}  # one shape, so one compilation


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_windows_equal_the_whole_image_where_the_receptive_field_fits(norm):
    """Two levels of one convolution see at most 16 pixels to a side."""
    net = UNet(classes=3, widths=(4, 8), norm=norm, convolutions=1)
    image = np.random.default_rng(0).random((150, 203, 3)).astype(np.float32)
    v = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros(1, int))
    apply = jax.jit(lambda x: net.apply(v, x, jnp.zeros(len(x), int)))
    reach = jnp.abs(jax.grad(lambda x: apply(x)[0, 50, 80].sum())(jnp.asarray(image)[None]))
    rows, columns = np.nonzero(np.asarray(reach[0].sum(-1)))
    assert max(50 - rows.min(), rows.max() - 50, 80 - columns.min(), columns.max() - 80) <= 16
    whole = np.asarray(apply(image[None]))[0]
    for batch_size in (1, 3):
        parts = sliding.strips(
            lambda b: {"logits": apply(b["image"])},
            {"image": image},
            (128, 128),
            0.5,
            net.multiple,
            batch_size,
        )
        assert np.abs(sliding.whole(parts)["logits"] - whole).max() <= 1e-5


def test_windows_one_by_one_overlap_by_half():
    image = np.arange(12 * 19, dtype=np.float32).reshape(12, 19, 1)
    seen = []

    def predict(batch):
        seen.append((batch["image"].shape, batch["image"][0, 0, 0, 0], batch["index"].tolist()))
        return {"same": batch["image"]}

    found = sliding.whole(sliding.strips(predict, {"image": image}, (8, 8)))
    np.testing.assert_allclose(found["same"], image, rtol=1e-6)
    assert seen == [
        ((1, 8, 8, 1), 19 * top + left, [4 * row + column])
        for row, top in enumerate((0, 4))
        for column, left in enumerate((0, 4, 8, 11))
    ]


def test_a_batch_goes_on_in_the_next_row_and_starts_before_the_last_one_is_used():
    events = []

    class Output:
        def __init__(self, values):
            self.values = values

        def __array__(self, *_, **__):
            events.append("used")
            return self.values

    def predict(batch):
        events.append(batch["index"].tolist())
        return {"same": Output(batch["image"])}

    image = np.zeros((12, 16, 1), np.float32)  # two rows of three windows
    sliding.whole(sliding.strips(predict, {"image": image}, (8, 8), batch_size=4))
    assert events == [[0, 1, 2, 3], [4, 5, 6, 7], "used", "used"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((20, 8, 0.5), [0, 4, 8, 12]),
        ((21, 8, 0.25, 4), [0, 4, 8, 12, 16]),  # enlarged to 24
        ((23, 10, 0.25), [0, 7, 13]),  # the last one ends with the image
        ((5, 8, 0.5), [0]),
        ((9, 4, 0.9, 2), [0, 2, 4, 6]),  # no less than `multiple` on
    ],
)
def test_windows_begin_evenly(arguments, expected):
    assert sliding.starts(*arguments) == expected


def test_windows_fade_between_the_quarters_of_what_they_share():
    # Zones of 4 pixels on the left and 6 on the right, of which the middle halves fade.
    weights = sliding.fade([0, 4, 6], 1, 8)
    ramp = lambda depth, zone: min(max((depth - zone / 4) / (zone / 2), 0), 1)
    expected = [ramp(n + 0.5, 4) * ramp(7.5 - n, 6) for n in range(8)]
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    np.testing.assert_allclose(weights[:3], [0, 0.25, 0.75], atol=1e-6)
    np.testing.assert_allclose(sliding.fade([0, 4, 6], 0, 8)[4:], [1, 0.75, 0.25, 0], atol=1e-6)
    assert sliding.fade([0, 8], 0, 8).tolist() == [1] * 8  # nothing is shared


def test_windows_of_one_pixel():
    image = np.arange(6.0, dtype=np.float32).reshape(2, 3, 1)
    same = lambda batch: {"same": batch["image"]}
    found = sliding.whole(sliding.strips(same, {"image": image}, (1, 1)))
    np.testing.assert_array_equal(found["same"], image)


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        ((8, 8), 1.0, "overlap"),
        ((8, 10), 0.5, "multiples of 4"),
        ((0, 8), 0.5, "multiples"),
    ],
)
def test_arguments_that_cannot_be_meant(window, overlap, message):
    with pytest.raises(ValueError, match=message):
        next(sliding.strips(lambda b: b, {"image": np.zeros((9, 9, 1))}, window, overlap, 4))
