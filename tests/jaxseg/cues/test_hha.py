import jax
import numpy as np
import pytest

from jaxseg.cues import depth, hha

HEIGHT, WIDTH, FOCAL = 36, 48, 40.0
CAMERA = 1.5  # metres above the floor
compute = jax.jit(lambda z: hha.hha(z, FOCAL))
gravity = jax.jit(lambda z: hha.gravity(depth.normals(z, FOCAL)))
channels = jax.jit(hha.channels(FOCAL))


def room(tilt):
    """A floor and a wall 4 m ahead, from a camera that looks down by `tilt` radians.

    Returns depth, where the floor is, heights above it, and the direction of gravity.
    """
    y, x = np.indices((HEIGHT, WIDTH))
    rays = [(x - (WIDTH - 1) / 2) / FOCAL, (y - (HEIGHT - 1) / 2) / FOCAL, np.ones(x.shape)]
    rays = np.stack(rays, -1)
    down = np.array([0.0, np.cos(tilt), np.sin(tilt)])
    ahead = np.array([0.0, -np.sin(tilt), np.cos(tilt)])
    with np.errstate(divide="ignore"):
        to_floor = CAMERA / (rays @ down)
    to_wall = 4.0 / (rays @ ahead)
    floor = (to_floor > 0) & (to_floor < to_wall)
    z = np.where(floor, to_floor, to_wall)
    return np.float32(z), floor, CAMERA - z * (rays @ down), down


@pytest.mark.parametrize("degrees", [0, 10, 35])
def test_a_room_seen_at_an_angle(degrees):
    z, floor, heights, down = room(np.radians(degrees))
    unknown = np.random.default_rng(0).random(z.shape) < 0.1
    z[unknown] = 0
    found = np.asarray(gravity(z))
    assert np.degrees(np.arccos(np.clip(found @ down, -1, 1))) < 2.0
    disparity, height, angle = np.moveaxis(np.asarray(compute(z)), -1, 0)
    np.testing.assert_allclose(disparity[~unknown], 1 / z[~unknown], rtol=1e-5)
    lowest = heights[~unknown].min()
    np.testing.assert_allclose(height[~unknown], heights[~unknown] - lowest, atol=0.1)
    assert (height[unknown] == 0).all()
    known = np.asarray(depth.normals(z, FOCAL)).any(-1)
    assert np.degrees(np.median(angle[floor & known])) < 0.3
    assert np.degrees(np.median(angle[~floor & known])) == pytest.approx(90, abs=0.3)
    assert (angle[~known] == 0).all()


@pytest.mark.parametrize("degrees", [-30, 5, 10, 20, 40])
def test_beside_a_single_wall_the_camera_is_pitched_and_not_rolled(degrees):
    """Any direction along the wall explains it: the nearest to the camera's y axis is down."""
    tilt = np.radians(degrees)
    rays = room(tilt)[0] * 0 + (np.indices((HEIGHT, WIDTH))[0] - (HEIGHT - 1) / 2) / FOCAL
    z = np.float32(4.0 / (np.cos(tilt) - np.sin(tilt) * rays))
    down = np.array([0.0, np.cos(tilt), np.sin(tilt)])
    np.testing.assert_allclose(gravity(z), down, atol=1e-3)
    _, height, angle = np.moveaxis(np.asarray(compute(z)), -1, 0)
    np.testing.assert_allclose(np.degrees(angle), 90, atol=0.1)
    heights = -z * (rays * down[1] + down[2])
    np.testing.assert_allclose(height, heights - heights.min(), atol=1e-2)


def test_gravity_of_normals_by_hand():
    """Two walls leave the line along both; a level surface is its own normal."""
    known = lambda *rows: np.asarray(hha.gravity(np.float32(rows)[None]))
    turned = np.array([np.cos(0.3), 0.0, np.sin(0.3)])
    np.testing.assert_allclose(known([0, 0, 1], [1, 0, 0], turned), [0, 1, 0], atol=1e-6)
    level = np.array([0.0, -np.cos(0.5), np.sin(0.5)])
    np.testing.assert_allclose(known(level, level), -level, atol=1e-6)
    # One wall's normals with noise, a little less of it along one diagonal: still one wall.
    wall, along, across = np.array(
        [[0, np.sin(0.2), np.cos(0.2)], [0, np.cos(0.2), -np.sin(0.2)], [1, 0, 0]]
    )
    noise = np.array([0.3 * (along + across), 0.25 * (along - across)]) / np.sqrt(2)
    noisy = np.concatenate([wall + noise, wall - noise])
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    np.testing.assert_allclose(known(*noisy), along, atol=1e-5)
    # A second wall that is more than that noise leaves the line along both.
    np.testing.assert_allclose(known(*noisy, across), along, atol=0.05)
    tilted = (along + across) / np.sqrt(2)
    line = (along - across) / np.sqrt(2)
    np.testing.assert_allclose(known(*[wall] * 9, tilted), line, atol=1e-5)
    # All round the axis at 46 degrees: nothing that is as good is nearest, so it stays.
    turns = np.radians([0, 90, 180, 270])
    sine, cosine = np.sin(np.radians(46)), np.cos(np.radians(46))
    ring = [[sine * np.cos(t), cosine, sine * np.sin(t)] for t in turns]
    np.testing.assert_allclose(known(*ring), [0, 1, 0], atol=1e-6)


def test_the_angle_is_exact_on_level_surfaces_and_has_a_slope_there():
    tilt = np.radians(35)
    rows = (np.indices((HEIGHT, WIDTH))[0] - (HEIGHT - 1) / 2) / FOCAL
    floor = np.float32(CAMERA / (np.cos(tilt) * rows + np.sin(tilt)))
    slope = jax.jit(jax.grad(lambda z: hha.hha(z, FOCAL)[..., 2].sum()))
    for z, wanted in ((floor, 0.0), (floor[::-1], 180.0)):  # or a ceiling, looked up at
        np.testing.assert_allclose(np.degrees(compute(z)[..., 2]), wanted, atol=0.02)
        cosine = np.asarray(channels({"image": z[..., None], "depth": z[..., None]}))[..., 2]
        np.testing.assert_allclose(cosine, np.cos(np.radians(wanted)), atol=1e-6)
        holes = np.where(np.arange(HEIGHT)[:, None] < 4, 0, z)
        assert np.isfinite(slope(holes)).all()
        assert np.abs(slope(holes)[4:]).max() > 0


def test_without_surfaces_gravity_is_the_cameras_y_axis():
    np.testing.assert_allclose(gravity(np.zeros((HEIGHT, WIDTH), np.float32)), [0, 1, 0])
    # A single wall leaves it open how the camera is rolled.
    np.testing.assert_allclose(gravity(np.full((HEIGHT, WIDTH), 2, np.float32)), [0, 1, 0])


def test_channels_are_of_unit_scale_differentiable_and_zero_where_unknown():
    z, _, _, _ = room(0.2)
    z[:5] = np.nan
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    found = np.asarray(channels({"image": image, "depth": z[..., None]}))
    assert found.shape == (HEIGHT, WIDTH, 4)
    assert (found[:5] == 0).all()
    np.testing.assert_allclose(found[5:, :, :2].mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(found[5:, :, :2].std((0, 1)), 1, atol=1e-2)
    assert (np.asarray(channels({"image": image})) == 0).all()
    nothing = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    assert (np.asarray(channels({"image": image, "depth": nothing})) == 0).all()
    loss = lambda depth: (hha.channels(FOCAL)({"image": image, "depth": depth}) ** 3).sum()
    slope = np.asarray(jax.jit(jax.grad(loss))(z[..., None]))
    assert np.isfinite(slope).all()
    assert np.abs(slope[5:]).max() > 0


def test_channels_hold_the_cosine_and_take_the_longer_side_for_the_focal_length():
    z = np.random.default_rng(0).uniform(2.0, 2.1, (4, 6)).astype(np.float32)
    z[1, 2] = z[0, 1] = z[0, 3] = z[1, 3] = 0  # the pixel between them has no normal
    found = np.asarray(hha.channels()({"image": np.zeros((4, 6, 3)), "depth": z[..., None]}))
    angle = np.asarray(hha.hha(z, 6))[..., 2]
    known = np.asarray(depth.normals(z, 6)).any(-1)
    assert (z > 0).sum() > known.sum() > 10
    np.testing.assert_allclose(found[known, 2], np.cos(angle[known]), atol=1e-6)
    assert (found[~known, 2] == 0).all()
    np.testing.assert_array_equal(found[..., 3], z > 0)
