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


PHOTO = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
MASK = np.zeros((20, 20), np.uint8)


def roles(root, files):
    """What `split_by_role` makes of {name: array}, as {role: {ending: names}}."""
    for name, array in files.items():
        Image.fromarray(array).save(root / name)
    found = endings.split_by_role(listing.entries(root))
    return {
        role: {ending: sorted(entry.path.name for entry in group) for ending, group in of.items()}
        for role, of in found.items()
    }


def test_three_files_spread_over_an_ending_say_what_it_is(tmp_path):
    """Of seven files those at 0, 3 and 6 are opened; two of three decide."""
    files = {f"{number}.png": PHOTO for number in range(7)}
    looked_at = {0: MASK, 3: PHOTO, 6: MASK}
    files |= {f"{number}_x.png": looked_at.get(number, PHOTO) for number in range(7)}
    assert list(roles(tmp_path, files)["mask"]) == ["_x"]
    (tmp_path / "0_x.png").write_bytes(b"nothing")  # one of the two that can be opened
    assert endings.split_by_role(listing.entries(tmp_path)) == {}


def test_colours_of_a_mask_are_told_apart_by_all_their_channels(tmp_path):
    rng = np.random.default_rng(1)
    two = rng.integers(0, 4, (20, 20, 3), np.uint8)  # 64 colours at most
    many = rng.integers(0, 5, (20, 20, 3), np.uint8)  # more, though each channel has 5 values
    files = {f"{n}{end}.png": a for n in (1, 2) for end, a in (("_a", two), ("_b", many))}
    assert roles(tmp_path, files) == {
        "image": {"_b": ["1_b.png", "2_b.png"]},
        "mask": {"_a": ["1_a.png", "2_a.png"]},
    }


@pytest.mark.parametrize(("partners", "found"), [(4, True), (3, False)])
def test_four_of_five_files_with_an_ending_must_have_a_partner(tmp_path, partners, found):
    files = {f"{number}.png": PHOTO for number in range(partners)}
    files |= {f"{number}_x.png": MASK for number in range(5)}
    result = roles(tmp_path, files)
    assert (list(result.get("mask", ())) == ["_x"]) is found
    assert found or result == {}


def test_one_pair_is_told_by_words_alone(tmp_path):
    assert roles(tmp_path, {"a.png": PHOTO, "a_mask.png": PHOTO}) == {
        "image": {"": ["a.png"]},
        "mask": {"_mask": ["a_mask.png"]},
    }
    other = tmp_path / "other"
    other.mkdir()
    assert roles(other, {"a.png": PHOTO, "a_x.png": MASK}) == {}


def test_one_name_with_two_suffixes_is_a_pair(tmp_path):
    files = {f"{number}.bmp": PHOTO for number in range(3)}
    files |= {f"{number}.png": MASK for number in range(3)} | {"one.bmp": PHOTO}
    assert {role: list(of) for role, of in roles(tmp_path, files).items()} == {
        "image": [".bmp"],
        "mask": [".png"],
    }


def test_the_longest_ending_that_pairs_is_taken(tmp_path):
    """Of a_left.png, a_gt_ids.png and a_gt_colour.png all three endings, and no shorter one."""
    files = {}
    for name in ("a_1", "b_2", "c_1"):
        files |= {f"{name}_left.png": PHOTO, f"{name}_gt_ids.png": MASK}
        files[f"{name}_gt_rgb.png"] = MASK
    found = roles(tmp_path, files)
    assert list(found["image"]) == ["_left"]
    assert sorted(found["mask"]) == ["_gt_ids", "_gt_rgb"]
    assert all(len(names) == 3 for of in found.values() for names in of.values())
