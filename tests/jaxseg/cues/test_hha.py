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
    flat = floor & (angle > 0)
    assert np.degrees(np.median(angle[flat])) < 3.0
    assert angle[flat].min() == pytest.approx(np.arccos(0.9999), abs=1e-4)  # differentiable
    assert np.degrees(np.median(angle[~floor & (angle > 0)])) == pytest.approx(90, abs=3)


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


def test_channels_hold_the_cosine_and_take_the_longer_side_for_the_focal_length(monkeypatch):
    rng, focals = np.random.default_rng(0), []
    parts = rng.uniform(0.1, 3, (4, 6, 3)).astype(np.float32)
    parts[0, :, 2] = 0  # no normal

    def given(depth, focal):
        focals.append(focal)
        return parts

    monkeypatch.setattr(hha, "hha", given)
    z = np.ones((4, 6, 1), np.float32)
    z[1, 2] = 0
    found = np.asarray(hha.channels()({"image": np.zeros((4, 6, 3)), "depth": z}))
    assert focals == [6]
    np.testing.assert_allclose(found[0, :, 2], 0)
    np.testing.assert_allclose(found[1:, :, 2], np.cos(parts[1:, :, 2]), atol=1e-6)
    np.testing.assert_array_equal(found[..., 3], z[..., 0] > 0)
