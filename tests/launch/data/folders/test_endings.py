import numpy as np
import pytest
from PIL import Image

from launch.data.folders import endings, listing


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_mask", "a"),
        ("a-LabelIds", "a"),
        ("a.depth", "a"),
        ("a seg", "a"),
        ("amask", "amask"),
        ("mask", "mask"),
        ("a_mask_2", "a_mask_2"),
    ],
)
def test_endings(name, expected):
    assert endings.without(name.casefold()) == expected


def test_masks_are_told_by_their_few_values_or_by_two_that_prevail(tmp_path):
    rng, y = np.random.default_rng(0), np.arange(40)[:, None]
    kinds = {
        "_photo7": rng.integers(0, 256, (40, 40), np.uint8),
        "_few": rng.integers(0, 64, (40, 40), np.uint8) * np.uint8(4),
        "_soft": np.where(y < 38, np.where(y < 20, 0, 255), rng.integers(0, 256, (40, 40))),
        "_many": rng.integers(0, 66, (40, 40), np.uint8) * np.uint8(3),
    }
    for name in ("a", "b"):
        for ending, array in kinds.items():
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / f"{name}{ending}.png")
    found = endings.split_by_role(listing.entries(tmp_path))
    assert {role: sorted(groups) for role, groups in found.items()} == {
        "image": ["_many", "_photo7"],
        "mask": ["_few", "_soft"],
    }


def test_the_endings_of_a_name_and_what_all_share():
    assert endings.of_name("a_b-c.d e") == ["_b-c.d e", "-c.d e", ".d e", " e"]
    assert endings.of_name("_a") == []
    assert endings.common(["x_1_image", "y_2_image"]) == "_image"
    assert endings.common(["x_image"]) == ""
    assert endings.common(["x_image", "y"]) == ""
    assert endings.role_of("_gt_rgb") == "mask"
    assert endings.role_of("_1") == ""
