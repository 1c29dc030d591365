import numpy as np
import pytest

from launch.data.builtin import drawing
from launch.data.builtin.drawing import SIDE, X, Y

CENTRE = (30, 20)


def rng():
    return np.random.default_rng(0)


def test_coverage_is_the_share_of_a_pixel_inside():
    found = drawing.coverage(np.array([-2, -0.5, -0.25, 0, 0.25, 0.5, 2]))
    np.testing.assert_array_equal(found, [1, 1, 0.75, 0.5, 0.25, 0, 0])


def test_coordinates_are_shifted_and_rotated():
    u, v = drawing.turned(CENTRE, 0)
    np.testing.assert_array_equal(u, X - 20)
    np.testing.assert_array_equal(v, Y - 30)
    u, v = drawing.turned(CENTRE, np.pi / 2)
    np.testing.assert_allclose(u, Y - 30, atol=1e-4)
    np.testing.assert_allclose(v, 20 - X, atol=1e-4)


@pytest.mark.parametrize("kind", drawing.OUTLINES)
def test_outlines_are_distances(kind):
    """Near the edge, the distance grows by one per pixel."""
    edge = drawing.outline(kind, (32, 32), 18, 0.3)
    slope = np.hypot(*np.gradient(edge))[np.abs(edge) < 1]
    assert np.median(slope) == pytest.approx(1, abs=0.02)
    assert edge[32, 32] < -5
    assert np.hypot(Y - 32, X - 32)[edge < 0].max() <= 18


@pytest.mark.parametrize(
    ("kind", "area"),
    [
        ("disc", np.pi),
        ("box", 1.6 * 1.2),
        ("triangle", 3 * np.sqrt(3) / 4),
        # Ten triangles between the centre, a tip at 1 and a notch at 1/2, 36 degrees apart.
        ("star", 10 * 0.5 * np.sin(np.pi / 5) / 2),
    ],
)
def test_outlines_have_their_areas(kind, area):
    inside = drawing.coverage(drawing.outline(kind, (32, 32), 20, 0.4)).sum()
    assert inside == pytest.approx(400 * area, rel=0.01)


def test_a_box_is_wider_than_high():
    edge = drawing.outline("box", CENTRE, 10, 0)
    assert edge[30, 20 + 8] == pytest.approx(0, abs=1e-5)
    assert edge[30 - 6, 20] == pytest.approx(0, abs=1e-5)
    assert edge[30, 20 + 10] == pytest.approx(2, abs=1e-5)


def test_a_plane_and_a_bulge():
    plane = drawing.plane(2.0, CENTRE, 0.01, 0)
    np.testing.assert_allclose(plane, 2 + 0.01 * (X - 20), rtol=1e-5)
    bulge = drawing.bulge(3.0, CENTRE, 10, 0.5)
    assert bulge[30, 20] == pytest.approx(2.5)
    assert bulge[30, 26] == pytest.approx(3 - 0.5 * 0.8)
    assert (bulge[:, 31:] == 3).all()


def test_patterns():
    for kind in ("plain", "stripes", "checks", "specks"):
        found = drawing.pattern(kind, rng(), CENTRE, 0.0)
        assert found.shape == (SIDE, SIDE, 3)
        assert (found.min() >= 0, found.max() <= 1) == (True, True)
    plain = drawing.pattern("plain", rng(), CENTRE, 0.0)
    assert (plain == plain[0, 0]).all()
    stripes = drawing.pattern("stripes", rng(), CENTRE, 0.0)
    np.testing.assert_allclose(stripes, np.broadcast_to(stripes[:1], stripes.shape), atol=1e-6)
    period = SIDE / np.abs(np.fft.rfft(stripes[0, :, 0] - stripes[0, :, 0].mean())).argmax()
    assert 4.5 < period < 8.5
    checks = drawing.pattern("checks", rng(), CENTRE, 0.0)
    np.testing.assert_allclose(checks[30], np.broadcast_to(checks[30, 20], (SIDE, 3)), atol=1e-5)
    half = (checks[0].max(0) + checks[0].min(0)) / 2  # where the wave is 0: half light, half dark
    np.testing.assert_allclose(half, checks[30, 20], atol=0.05)
    light, dark = stripes.max((0, 1)), stripes.min((0, 1))
    assert (light >= 0.5).all()
    assert (dark <= 0.5).all()


def test_noise_has_its_spectrum():
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE))
    ring = (frequency > 0.05) & (frequency < 0.27)
    power = {}
    for kind in ("grain", "spots", "stripes", "weave"):
        found = np.abs(np.fft.fft2(drawing.noise(kind, rng()))) ** 2
        power[kind] = found / found.sum()
    assert power["grain"][ring].sum() == pytest.approx(ring.mean(), abs=0.05)
    for kind in ("spots", "stripes", "weave"):
        assert power[kind][ring].sum() > 0.98
    many = {kind: np.count_nonzero(each > each.max() / 100) for kind, each in power.items()}
    assert many["grain"] > many["spots"] > 1.5 * many["weave"] > 2 * many["stripes"]
    for kind, turn, alike in (("stripes", 1, False), ("weave", 1, True), ("stripes", 2, True)):
        smooth = drawing.noise(kind, rng())
        spectrum = np.fft.fftshift(np.abs(np.fft.fft2(smooth)))[1:, 1:]  # odd: has a centre
        wide = spectrum.reshape(7, 9, 7, 9).sum((1, 3))
        agreement = np.corrcoef(wide.ravel(), np.rot90(wide, turn).ravel())[0, 1]
        assert (agreement > 0.8) == alike, kind


def test_other_colours_keep_the_pattern():
    piece = drawing.photograph("train", rng())
    assert (piece.shape, piece.dtype) == ((SIDE, SIDE, 3), np.float32)
    found = drawing.recoloured(piece, rng())
    channels = [
        max(abs(np.corrcoef(found[..., i].ravel(), piece[..., j].ravel())[0, 1]) for j in range(3))
        for i in range(3)
    ]
    assert min(channels) > 0.999
    gain = found.std((0, 1)).sum() / piece.std((0, 1)).sum()
    assert 0.15 <= gain * (piece.std() + 0.05) <= 0.25
    assert (found.mean((0, 1)) >= 0.15).all()
    assert (found.mean((0, 1)) <= 0.9).all()
    grey = drawing.recoloured(piece, rng(), dull=1)
    np.testing.assert_allclose(grey, grey[0, 0, 0], rtol=1e-5)
    half = drawing.recoloured(piece, rng(), dull=0.5)
    np.testing.assert_allclose(half.std(), found.std() / 2, rtol=0.5)
    assert half.mean() == pytest.approx(found.mean(), rel=1e-4)


def test_colours_are_within_their_levels():
    many = np.array([drawing.colour(np.random.default_rng(k), 0.2, 0.4) for k in range(99)])
    assert many.dtype == np.float32
    assert 0.2 <= many.min() < 0.22 < 0.38 < many.max() <= 0.4


def test_digits_are_upright_and_of_their_size():
    edge = drawing.digit("test", rng(), CENTRE, 16, 0.0)
    inside = edge < 0
    rows, columns = np.nonzero(inside)
    assert 24 <= np.ptp(rows) <= 33
    assert abs(rows.mean() - 30) < 4
    assert abs(columns.mean() - 20) < 4
    turned = drawing.digit("test", rng(), CENTRE, 16, np.pi / 2) < 0
    again = np.rot90(turned[30 - 18 : 30 + 19, 20 - 18 : 20 + 19])
    ours = inside[30 - 18 : 30 + 19, 20 - 18 : 20 + 19]
    assert max((again == ours).mean(), (np.rot90(again, 2) == ours).mean()) > 0.9


def test_splits_share_no_tile_and_no_digit():
    tiles, digits = {}, {}
    for split in drawing.SHARE:
        tiles[split] = {tile.tobytes() for tile in drawing._tiles(split)}
        digits[split] = len(drawing._glyphs(split))
    assert all(tiles.values())
    assert sum(map(len, tiles.values())) == len(set.union(*tiles.values()))
    assert sum(digits.values()) == 1797
