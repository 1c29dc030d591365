import jax
import numpy as np
import pytest

from jaxseg import examples


def test_images_are_uint8_with_three_axes():
    good = jax.ShapeDtypeStruct((4, 5, 3), np.uint8)
    examples.check_image({"image": good})
    for bad in (
        {},
        {"image": jax.ShapeDtypeStruct((4, 5), np.uint8)},
        {"image": jax.ShapeDtypeStruct((4, 5, 3), np.float32)},
    ):
        with pytest.raises(ValueError, match=r"needs examples with `image` uint8 \[H, W, C\]"):
            examples.check_image(bad)


def test_the_message_lists_what_the_examples_have():
    with pytest.raises(ValueError, match=r"\{'label': 'int32\[\]'\}"):
        examples.check_image({"label": jax.ShapeDtypeStruct((), np.int32)})
