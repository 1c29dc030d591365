from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.cues import depth

HEIGHT, WIDTH, FOCAL = 24, 33, 30.0
compute = jax.jit(depth.channels())
filled = jax.jit(depth.fill)
edges = jax.jit(depth.edges)
perspective = jax.jit(lambda z: depth.normals(z, FOCAL))


def rays():
    """Directions (x, y, 1) of the pixels of a camera with its centre in the middle."""
    y, x = np.indices((HEIGHT, WIDTH))
    return np.stack(
        [(x - (WIDTH - 1) / 2) / FOCAL, (y - (HEIGHT - 1) / 2) / FOCAL, np.ones(x.shape)], -1
    )


def plane(normal, distance):
    """Depth of the plane n . p = distance."""
    return np.float32(distance / (rays() @ np.asarray(normal, float)))


def room():
    """A wall 4 m away with a box 2 m away in front of it, and the box's mask."""
    box = np.zeros((HEIGHT, WIDTH), bool)
    box[8:18, 10:22] = True
    return np.where(box, 2.0, 4.0).astype(np.float32), box


def holes(share=0.3, seed=0):
    return np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share


def test_units():
    assert depth.to_metres(np.uint16([0, 1, 2500]), "millimetres").tolist() == [
        0.0,
        pytest.approx(0.001),
        2.5,
    ]
    metres = depth.to_metres(np.float64([np.nan, np.inf, -1, 3.5]), "metres")
    assert metres.tolist() == [0.0, 0.0, 0.0, 3.5]
    assert metres.dtype == jnp.float32
    found = depth.to_metres(np.uint16([0, 1, 257, 32 * 256 + 1]), "cityscapes_disparity", 0.2, 2000)
    np.testing.assert_allclose(found, [0.0, 0.0, 400.0, 12.5], rtol=1e-6)
    with pytest.raises(ValueError, match="one of metres"):
        depth.to_metres(np.zeros(1), "feet")
    with pytest.raises(ValueError, match="baseline"):
        depth.to_metres(np.zeros(1), "cityscapes_disparity")
    with pytest.raises(ValueError, match="focal"):
        depth.to_metres(np.zeros(1), "cityscapes_disparity", 0.2)


def test_fill_keeps_what_is_known_and_stays_within_it():
    truth = plane((0.1, 0.5, -1.0), -3.0)
    for unknown in (0.0, np.nan, np.inf):
        gaps = holes()
        found = np.asarray(filled(np.where(gaps, unknown, truth)))
        np.testing.assert_array_equal(found[~gaps], truth[~gaps])
        assert truth.min() <= found.min()
        assert found.max() <= truth.max()
        assert np.abs(found - truth)[gaps].max() < 0.1 * np.ptp(truth)


def test_fill_by_hand():
    # Means of pairs: 4, unknown, 7; of these: 4, 7. The unknown pair is 3/4 of 4 and 1/4 of 7,
    # and each unknown pixel 3/4 of its pair and 1/4 of the next one.
    found = filled(np.float32([[4, 0, 0, 0, 8, 6]]))
    np.testing.assert_allclose(found, [[4, 4.1875, 4.5625, 5.3125, 8, 6]], rtol=1e-6)


def test_points_of_a_camera_with_its_centre_elsewhere():
    z = np.float32([[2, 4, 6], [8, 10, 12]])
    found = depth.points(jnp.asarray(z), 4.0, (1.0, 0.5))
    x = (np.arange(3) - 0.5) / 4 * z
    y = (np.arange(2)[:, None] - 1.0) / 4 * z
    np.testing.assert_allclose(found, np.stack([x, y, z], -1))


@pytest.mark.parametrize(("mean", "deviation"), [(1.0, 1e-3), (0.0, 1e-6)])
def test_variation_far_below_the_mean_is_not_enlarged(mean, deviation):
    sign = np.where(np.indices((4, 6)).sum(0) % 2, 1.0, -1.0)
    values = np.float32(mean + deviation * sign)
    found = depth.standardised(jnp.asarray(values), np.ones((4, 6), bool))
    np.testing.assert_allclose(found, sign / np.sqrt(2), rtol=1e-3)


def test_the_focal_length_is_by_default_the_longer_side():
    unit = np.array([0.3, -0.6, -1.0]) / np.sqrt(1.45)
    directions = rays() * [FOCAL / WIDTH, FOCAL / WIDTH, 1]
    z = np.float32(-3 / (directions @ unit))[..., None]
    z = np.where((z > 0) & (z < 50), z, 0)
    found = compute({"image": np.zeros((HEIGHT, WIDTH, 3), np.float32), "depth": z})[..., 1:4]
    known = np.linalg.norm(found, axis=-1) > 0
    assert known.mean() > 0.5
    np.testing.assert_allclose(found[known], np.tile(unit, (known.sum(), 1)), atol=2e-3)


def test_fill_of_large_gaps_and_of_nothing():
    gap = np.zeros((HEIGHT, WIDTH), np.float32)
    assert (np.asarray(filled(gap)) == 0).all()
    gap[3, 30] = 2.5
    np.testing.assert_allclose(filled(gap), 2.5, rtol=1e-6)
    wall, box = room()
    found = filled(np.where(np.roll(box, 3, 1) & box, 0, wall))
    assert ((found >= 2.0) & (found <= 4.0)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40)])
def test_any_size_and_all_unknown(shape):
    for value in (0.0, np.nan, 2.0):
        image = np.full(shape, value, np.float32)
        np.testing.assert_array_equal(filled(image), np.nan_to_num(image))
        assert (np.asarray(edges(image)) == 0).all()
        found = compute({"image": np.ones((*shape, 3), np.float32), "depth": image[..., None]})
        assert found.shape == (*shape, 6)
        assert np.isfinite(found).all()
        assert np.any(found) == (value == 2.0)


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.3, -0.6, -1), (0.0, -1.0, -0.3)])
def test_normals_of_a_plane_are_its_own(normal):
    unit = np.array(normal) / np.linalg.norm(normal)
    # A point 3 m ahead; pixels whose rays miss the plane are unknown.
    z = plane(unit, -3.0 * np.abs(unit[2]))
    z = np.where((z > 0) & (z < 50), z, 0)
    gaps = holes(0.1)
    found = np.asarray(perspective(np.where(gaps, np.nan, z)))
    has = np.linalg.norm(found, axis=-1) > 0
    assert has[(z > 0) & ~gaps].mean() > 0.95
    assert not has[gaps | (z == 0)].any()
    np.testing.assert_allclose(found[has], np.broadcast_to(unit, found[has].shape), atol=2e-3)


def test_normals_of_a_sphere():
    centre, radius = np.array([0.0, 0.0, 5.0]), 1.6
    directions = rays()
    a, b = (directions**2).sum(-1), directions @ centre
    root = b**2 - a * (centre @ centre - radius**2)
    z = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, 0)
    expected = (directions * z[..., None] - centre) / radius
    facing = (root > 0) & ((expected * directions).sum(-1) < -0.5)
    found = np.asarray(perspective(np.float32(z)))
    cosine = (found * expected).sum(-1)[facing]
    assert facing.sum() > 100
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 2.0


def test_normals_of_an_orthographic_ramp():
    z = 1.0 + 0.5 * np.arange(WIDTH) * 0.01 + np.zeros((HEIGHT, 1))
    found = jax.jit(partial(depth.normals, pitch=0.01))(np.float32(z))
    unit = np.array([0.5, 0, -1]) / np.hypot(0.5, 1)
    np.testing.assert_allclose(found, np.broadcast_to(unit, found.shape), atol=1e-3)
    with pytest.raises(ValueError, match="either focal"):
        depth.normals(z)


def test_normals_do_not_straddle_depth_edges():
    wall, _ = room()
    np.testing.assert_allclose(
        perspective(wall), np.broadcast_to([0, 0, -1.0], (HEIGHT, WIDTH, 3)), atol=1e-4
    )


def test_edges_are_at_jumps_and_nowhere_on_planes():
    wall, box = room()
    found = np.asarray(edges(wall))
    inner = np.zeros_like(box)
    inner[9:17, 11:21] = True
    np.testing.assert_allclose(found[box & ~inner], 2 * 0.25 / 0.75, rtol=1e-5)
    assert (found[inner] == 0).all()
    assert (found > 0).sum() == (box & ~inner).sum() + 2 * (10 + 12)
    steep = plane((0.0, -1.0, -0.45), -0.4)
    steep = np.where(steep > 0, steep, 0)
    assert np.abs(np.diff(np.log(steep[steep[:, 0] > 0, 0]))).max() > 0.1
    np.testing.assert_allclose(edges(steep), 0.0, atol=1e-3)


def test_an_edge_through_a_mixed_pixel_is_seen_and_one_beside_a_hole_is_not():
    row = 1.0 / np.array([1.0, 1.0, 1.0, 0.75, 0.5, 0.5, 0.5], np.float32)
    jumps = jax.jit(partial(depth.jumps, axis=1))
    found = np.asarray(jumps(np.tile(row, (2, 1))))[0]
    assert (found > 0.2).tolist() == [False, False, True, True, False, False, False]
    row[3] = 0
    assert (np.asarray(jumps(np.tile(row, (2, 1)))) == 0).all()


def test_channels_are_of_unit_scale_and_zero_where_unknown():
    wall, _ = room()
    gaps = holes()
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    found = np.asarray(compute({"image": image, "depth": np.where(gaps, 0, wall)[..., None]}))
    assert found.shape == (HEIGHT, WIDTH, 6)
    assert (found[gaps] == 0).all()
    np.testing.assert_array_equal(found[..., 5], ~gaps)
    np.testing.assert_allclose(found[~gaps, 0].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(found[~gaps, 0].std(), 1, atol=1e-3)
    # The unit of depth does not matter to inverse depth and edges.
    scaled = np.asarray(compute({"image": image, "depth": 3 * np.where(gaps, 0, wall)[..., None]}))
    np.testing.assert_allclose(scaled, found, atol=1e-3)
    assert (np.asarray(compute({"image": image})) == 0).all()
    assert (np.asarray(compute({"image": image, "depth": 0 * wall[..., None]})) == 0).all()


def test_channels_are_differentiable_and_batch():
    wall, _ = room()
    noisy = wall * (1 + 0.01 * np.random.default_rng(0).normal(size=wall.shape)) * ~holes()
    batch = {
        "image": jnp.zeros((2, HEIGHT, WIDTH, 3)),
        "depth": jnp.stack([jnp.float32(noisy), jnp.zeros_like(wall)])[..., None],
    }

    @jax.jit
    def slope(batch):
        def loss(z):
            return jnp.sum(jax.vmap(depth.channels())(batch | {"depth": z}) ** 2)

        return jax.grad(loss)(batch["depth"])

    found = np.asarray(slope(batch))
    assert np.isfinite(found).all()
    assert np.abs(found[0]).max() > 0


def test_drop_takes_all_depth_of_some_examples():
    example = {"image": jnp.ones((2, 2, 3)), "depth": jnp.ones((2, 2, 1))}
    keys = jax.random.split(jax.random.key(0), 1000)
    found = jax.jit(jax.vmap(lambda key: depth.drop(example, key, 0.3)))(keys)
    kept = np.asarray(found["depth"]).reshape(1000, -1)
    assert (kept == kept[:, :1]).all()
    assert kept[:, 0].mean() == pytest.approx(0.7, abs=0.05)
    assert (found["image"] == 1).all()
    usual = jax.jit(jax.vmap(lambda key: depth.drop(example, key)["depth"].max()))(keys)
    assert usual.mean() == pytest.approx(0.8, abs=0.04)
    assert (depth.drop(example, keys[0], 1.0)["depth"] == 0).all()
    assert (depth.drop(example, keys[0], 0.0)["depth"] == 1).all()
    with pytest.raises(ValueError, match="these have image"):
        depth.drop({"image": example["image"]}, keys[0])


def test_normals_are_of_unit_length_however_small_the_pixels_and_zero_without_neighbours():
    z = plane((0.3, -0.6, -1.0), -3.0) * np.float32(1e-3)  # millimetres from the camera
    np.testing.assert_allclose(np.linalg.norm(perspective(z), axis=-1), 1.0, rtol=1e-4)
    alone = np.zeros((HEIGHT, WIDTH), np.float32)
    alone[5, 7] = 2.0
    assert (np.asarray(perspective(alone)) == 0).all()


@pytest.mark.parametrize(("ratio", "linked"), [(1.09, True), (1.12, False)])
def test_neighbours_more_than_ten_percent_apart_belong_to_two_surfaces(ratio, linked):
    z = np.where(np.arange(WIDTH) < 16, 2.0, 2.0 * ratio) * np.ones((HEIGHT, 1))
    found = np.asarray(perspective(np.float32(z)))
    assert (np.abs(found[:, 15:17, 0]).max() > 0.1) == linked


def test_jumps_by_hand():
    row = np.float32([2.0, 2.0, 4.0, 4.0, 0.0, 1.0, 1.0, 1.5])
    found = np.asarray(jax.jit(partial(depth.jumps, axis=1))(np.tile(row, (2, 1))))[0]
    # Inverse depths 1/2, 1/4: difference over mean; pairs with the unknown pixel are 0.
    last = 2 * (1 - 1 / 1.5) / (1 + 1 / 1.5)
    np.testing.assert_allclose(found, [0, 0.25 / 0.375, 0, 0, 0, 0, last, 0], atol=1e-6)
    down = np.asarray(jax.jit(partial(depth.jumps, axis=0))(np.tile(row, (2, 1)).T))[:, 0]
    np.testing.assert_array_equal(down, found)


def test_the_edge_channel_is_one_half_at_a_jump_of_ten_percent():
    wall, _ = room()
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    found = np.asarray(compute({"image": image, "depth": wall[..., None]}))[..., 4]
    jump = np.asarray(edges(wall))
    np.testing.assert_allclose(found, jump / (jump + 0.1), rtol=1e-5)
