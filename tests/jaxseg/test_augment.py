import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg import augment

SHAPE = (24, 32)


def example(seed=0):
    rng = np.random.default_rng(seed)
    ids = ndimage.zoom(rng.integers(0, 4, (6, 8)), 4, order=0)
    return {
        "image": np.repeat((ids * 60).astype(np.uint8)[..., None], 3, -1),
        "segmentation": ids.astype(np.uint8)[..., None],
        "depth": (1 + ids).astype(np.float32)[..., None],
        "edges": (ids * 60).astype(np.uint8)[..., None],
        "label": np.int32(3),
    }


def many(count=16, **options):
    warp = jax.jit(jax.vmap(lambda key: augment.warp(example(), key, **options)))
    return jax.tree.map(np.asarray, warp(jax.random.split(jax.random.key(0), count)))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": (0.6, 1.5), "rotate": 30.0, "elastic": 1.5},
        {"crop": (10, 14)},
        {"crop": (40, 40), "rotate": 10.0},
    ],
)
def test_image_mask_depth_and_edges_move_together(options):
    out = many(**options)
    ids, image = out["segmentation"][..., 0], out["image"][..., 0]
    inside = ids != 255
    assert inside.any()
    # Pixels where the linear and the nearest sample agree on one region.
    flat = inside & (np.abs(image - 60.0 * ids) < 1)
    assert flat.sum() > 0.5 * inside.sum()
    assert (out["depth"][..., 0][inside] == 1 + ids[inside]).all()
    assert (out["depth"][..., 0][~inside] == 0).all()
    assert (image[~inside] == 0).all()
    np.testing.assert_array_equal(out["edges"][..., 0], image)
    assert (out["label"] == 3).all()


def test_a_flip_alone_is_exact_and_happens_to_half():
    out = many(64)
    plain = example()
    flipped = 0
    for image, ids in zip(out["image"], out["segmentation"], strict=True):
        mirrored = (ids == plain["segmentation"][:, ::-1]).all()
        flipped += mirrored
        step = -1 if mirrored else 1
        np.testing.assert_array_equal(ids, plain["segmentation"][:, ::step])
        np.testing.assert_array_equal(image, plain["image"][:, ::step])
    assert 16 < flipped < 48


def test_the_nearest_pixel_of_the_borders_is_their_own():
    ids = np.arange(24 * 32).reshape(24, 32, 1)
    plain = {"image": np.zeros((24, 32, 3), np.uint8), "segmentation": ids.astype(np.int32)}
    out = augment.warp(plain, jax.random.key(0), flip=False)
    np.testing.assert_array_equal(out["segmentation"], ids)


@pytest.mark.parametrize(("crop", "quarters"), [((12, 12), range(4)), ((24, 32), (0, 2))])
def test_turns_alone_are_exact_and_as_likely(crop, quarters):
    image = np.random.default_rng(0).integers(1, 255, (24, 32, 1)).astype(np.uint8)
    options = {"crop": crop, "flip": False, "turns": len(quarters)}
    warp = lambda key: augment.warp({"image": image}, key, **options)
    found = np.asarray(jax.jit(jax.vmap(warp))(jax.random.split(jax.random.key(0), 80))["image"])
    windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], crop)
    counts = {
        turn: sum((windows == np.rot90(one[..., 0], turn)).all((2, 3)).any() for one in found)
        for turn in quarters
    }
    assert sum(counts.values()) == 80
    assert min(counts.values()) > 80 / len(counts) / 2


@pytest.mark.parametrize(("turns", "crop"), [(3, (8, 8)), (4, (8, 10))])
def test_turns_that_do_not_fit_are_refused(turns, crop):
    with pytest.raises(ValueError, match=f"turns={turns} must be"):
        augment.warp(example(), jax.random.key(0), crop=crop, turns=turns)


def test_a_share_is_resampled_and_the_others_are_parts_of_the_source():
    image = np.random.default_rng(0).integers(1, 255, (24, 32, 1)).astype(np.uint8)
    options = {"crop": (12, 12), "flip": False, "scale": (0.7, 1.4), "rotate": 20.0, "elastic": 1.0}
    warp = lambda key: augment.warp({"image": image}, key, share=0.3, **options)
    found = np.asarray(jax.jit(jax.vmap(warp))(jax.random.split(jax.random.key(0), 100))["image"])
    windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], (12, 12))
    whole = sum((windows == one[..., 0]).all((2, 3)).any() for one in found)
    assert 55 <= whole <= 85


@pytest.mark.parametrize("function", [augment.warp, augment.colour])
def test_a_share_that_is_none_is_refused(function):
    with pytest.raises(ValueError, match=r"share=1.2 must be in \[0, 1\]"):
        function(example(), jax.random.key(0), share=1.2)


def test_one_enlargement_for_all_examples_takes_place():
    large = augment.warp(example(), jax.random.key(0), crop=(24, 32), flip=False, scale=(2.0, 2.0))
    plain = example()["segmentation"]
    assert (np.asarray(large["segmentation"]) != plain).any()
    assert len(np.unique(large["segmentation"])) <= len(np.unique(plain))


def test_a_share_of_the_colours_is_changed():
    image = np.random.default_rng(0).integers(1, 255, (6, 6, 3)).astype(np.uint8)
    change = lambda key: augment.colour({"image": image}, key, share=0.3)["image"]
    found = np.asarray(jax.jit(jax.vmap(change))(jax.random.split(jax.random.key(0), 100)))
    assert 55 <= sum((one == image).all() for one in found) <= 85


def test_a_crop_alone_is_a_part_of_the_source():
    plain = example()["segmentation"][..., 0]
    for ids in many(crop=(9, 14), flip=False)["segmentation"][..., 0]:
        windows = np.lib.stride_tricks.sliding_window_view(plain, (9, 14))
        assert (windows == ids).all((2, 3)).any()


def test_rotation_by_scipy_s_convention():
    """Warped by a known angle, an image equals scipy's rotation of it."""
    key = jax.random.key(3)
    turn = 40.0 * float(jax.random.uniform(jax.random.split(key, 5)[2], minval=-1, maxval=1))
    image = np.random.default_rng(0).random((21, 21))
    image = (255 * ndimage.gaussian_filter(image, 2)).astype(np.uint8)[..., None]
    ours = augment.warp({"image": image}, key, flip=False, rotate=40.0)["image"][..., 0]
    theirs = ndimage.rotate(image[..., 0].astype(float), turn, reshape=False, order=1)
    centre = (slice(5, -5), slice(5, -5))
    assert np.abs(np.asarray(ours, float)[centre] - theirs[centre]).max() <= 1.0


@pytest.mark.parametrize(("crop", "seed"), [((10, 14), 0), ((30, 40), 4)])
def test_all_changes_at_once_are_one_resampling_at_known_places(crop, seed):
    rng, key = np.random.default_rng(0), jax.random.key(seed)
    image = ndimage.gaussian_filter(255 * rng.random((24, 32)), 1).astype(np.uint8)
    plain = {"image": image[..., None], "segmentation": rng.integers(0, 99, (24, 32, 1), np.uint8)}
    options = {"crop": crop, "scale": (0.7, 1.6), "rotate": 20.0, "elastic": 1.2}
    found = jax.device_get(jax.jit(lambda: augment.warp(plain, key, **options))())

    keys = jax.random.split(key, 5)
    draw = lambda number, low, high, shape=(): np.asarray(
        jax.random.uniform(keys[number], shape, minval=low, maxval=high)
    )
    middle = [(side - 1) / 2 for side in crop]
    y, x = (place - half for place, half in zip(np.indices(crop), middle, strict=True))
    mesh = 1.2 * jax.random.normal(keys[0], (5, 5, 2))
    bend = np.asarray(jax.image.resize(mesh, (*crop, 2), "cubic"))
    y, x = y + bend[..., 0], x + bend[..., 1]
    zoom = np.exp(draw(1, np.log(0.7), np.log(1.6)))
    turn = np.radians(20 * draw(2, -1.0, 1.0))
    y, x = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    side = -1 if jax.random.bernoulli(keys[3]) else 1
    down, right = draw(4, -0.5, 0.5, (2,))
    y = y / zoom + 11.5 + down * max(24 - crop[0] / zoom, 0)
    x = side * x / zoom + 15.5 + right * max(32 - crop[1] / zoom, 0)

    inside = (y > -0.5) & (y < 23.5) & (x > -0.5) & (x < 31.5)
    assert inside.mean() > 0.5
    linear = ndimage.map_coordinates(image.astype(float), [y, x], order=1, mode="nearest")
    linear = np.where(inside, linear, 0)
    far = np.minimum(abs(y + 0.5), abs(y - 23.5)) > 1e-3
    far &= np.minimum(abs(x + 0.5), abs(x - 31.5)) > 1e-3
    assert np.abs(found["image"][..., 0] - linear)[far].max() <= 0.51
    row, column = (np.clip(np.round(v).astype(int), 0, n - 1) for v, n in ((y, 24), (x, 32)))
    nearest = np.where(inside, plain["segmentation"][row, column, 0], 255)
    assert np.sum(found["segmentation"][..., 0] != nearest) <= 1


def test_noise_is_a_function_of_the_key():
    one = many(4, rotate=10.0, elastic=1.0)
    two = many(4, rotate=10.0, elastic=1.0)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert (one["image"][0] != one["image"][1]).any()


def test_contrast_scales_the_distance_to_the_mean():
    image = np.random.default_rng(0).integers(80, 170, (*SHAPE, 3)).astype(np.uint8)
    for key in jax.random.split(jax.random.key(1), 4):
        gain = float(jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)[1])
        found = augment.colour({"image": image}, key, 0.0, 0.5, 0.0)["image"]
        expected = image.mean() + (1 + 0.5 * gain) * (image - image.mean())
        assert np.abs(np.asarray(found, float) - expected).max() <= 0.51


@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_colour_by_default_changes_brightness_contrast_and_saturation_by_up_to_a_fifth(noise):
    image = np.random.default_rng(0).integers(105, 150, (*SHAPE, 3)).astype(np.uint8)
    for key in jax.random.split(jax.random.key(1), 3):
        draws = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        shift, gain, tint = (0.2 * float(draw) for draw in draws)
        options = {"noise": noise} if noise else {}
        found = augment.colour({"image": image}, key, **options)["image"]
        x = image / 255.0
        grey = x.mean(-1, keepdims=True)
        x = grey + (1 + tint) * (x - grey)
        x = image.mean() / 255 + (1 + gain) * (x - image.mean() / 255) + shift
        x += noise * np.asarray(jax.random.normal(jax.random.fold_in(key, 1), image.shape))
        assert np.abs(np.asarray(found, float) - 255 * x).max() <= 0.51


def test_colour_changes_the_image_alone_and_nothing_at_zero():
    plain = example()
    key = jax.random.key(0)
    same = augment.colour(plain, key, 0.0, 0.0, 0.0)
    np.testing.assert_array_equal(same["image"], plain["image"])
    other = augment.colour(plain, key, 0.3, 0.3, 0.3, noise=0.05)
    assert (np.asarray(other["image"]) != plain["image"]).any()
    np.testing.assert_array_equal(other["segmentation"], plain["segmentation"])


def padded(content, shape=(40, 48)):
    """An example whose content lies above and at the left, the rest black and void."""
    plain = example()
    height, width = content
    image = np.zeros((*shape, 3), np.uint8)
    ids = np.full((*shape, 1), 255, np.uint8)
    image[:height, :width] = plain["image"][:height, :width] + 1
    ids[:height, :width] = plain["segmentation"][:height, :width]
    return {"image": image, "segmentation": ids}


def crops(source, count=32, **options):
    warp = jax.jit(jax.vmap(lambda key: augment.warp(source, key, **options)))
    return jax.tree.map(np.asarray, warp(jax.random.split(jax.random.key(0), count)))


def test_crops_lie_inside_what_is_not_padding():
    out = crops(padded((20, 30)), crop=(12, 16))
    assert (out["segmentation"] != 255).all()
    assert len({image.tobytes() for image in out["image"]}) > 16


def test_a_crop_larger_than_the_content_shows_all_of_it():
    out = crops(padded((20, 30)), crop=(24, 32))
    assert ((out["segmentation"] != 255).sum((1, 2, 3)) == 20 * 30).all()


@pytest.mark.parametrize(("balance", "least", "most"), [(0.0, 0.0, 0.2), (1.0, 0.8, 1.0)])
def test_balanced_crops_show_a_rare_class(balance, least, most):
    source = padded((24, 32), (64, 64))
    source["image"] = np.ones_like(source["image"])
    source["segmentation"] = np.zeros_like(source["segmentation"])
    source["segmentation"][50, 9] = 7
    source["segmentation"][:, 60:] = 255
    out = crops(source, 64, crop=(9, 9), balance=balance, flip=False)
    shares = (out["segmentation"] == 7).any((1, 2, 3))
    # Of two classes, half of the balanced crops are around the rare one.
    assert least / 2 <= shares.mean() <= 0.5 * most + 0.2


def test_a_balanced_crop_is_around_a_pixel_of_the_class():
    source = {"image": np.ones((64, 64, 1), np.uint8), "segmentation": np.full((64, 64, 1), 255)}
    source["segmentation"] = source["segmentation"].astype(np.uint8)
    source["segmentation"][30, 20] = 2
    out = crops(source, 8, crop=(9, 7), balance=1.0, flip=False)
    assert (out["segmentation"][:, 4, 3, 0] == 2).all()


def test_balance_of_an_example_without_a_label_is_a_crop_anywhere():
    source = {"image": np.ones((20, 20, 1), np.uint8), "segmentation": np.full((20, 20, 1), 255)}
    source["segmentation"] = source["segmentation"].astype(np.uint8)
    out = crops(source, 4, crop=(8, 8), balance=1.0)
    assert out["image"].shape == (4, 8, 8, 1)
    assert (out["image"] == 1).all()


def test_overlapping_labels_and_objects_move_with_the_image():
    plain = example()
    ids = plain["segmentation"]
    plain["labels"] = np.concatenate([ids == 1, ids == 2], -1).astype(np.uint8)
    plain["instances"] = 300 * ids.astype(np.int32)
    out = crops(plain, 8, scale=(0.6, 1.4), rotate=30.0)
    seen = out["segmentation"] != 255
    assert seen.any()
    assert not seen.all()
    inside = np.where(seen, out["segmentation"], 0).astype(np.int32)
    np.testing.assert_array_equal(out["instances"], np.where(seen, 300 * inside, 65535))
    for k in (0, 1):
        wanted = np.where(seen[..., 0], inside[..., 0] == k + 1, 255)
        np.testing.assert_array_equal(out["labels"][..., k], wanted)


def test_balance_needs_classes():
    with pytest.raises(ValueError, match=r"balance=0.5 needs examples with `segmentation`"):
        crops({"image": np.ones((8, 8, 3), np.uint8)}, 1, crop=(4, 4), balance=0.5)
