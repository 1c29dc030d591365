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
