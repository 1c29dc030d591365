import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits, load_sample_images

from launch.data.builtin import drawing
from launch.data.builtin.drawing import SIDE, X, Y
from tests.launch.data.builtin.extreme import Extreme

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
    assert bulge[36, 20] == pytest.approx(3 - 0.5 * 0.8)
    assert bulge[27, 16] == pytest.approx(3 - 0.5 * np.sqrt(0.75))
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


def test_patterns_have_their_levels_and_periods():
    """From dark to light, and half of each where the wave is 0; nothing is beyond."""
    short = drawing.pattern("stripes", Extreme(0), CENTRE, 0.0)[30, 20:26]
    np.testing.assert_allclose(short[:, 0], [0.25, 0.5, 0.5, 0, 0, 0.25], atol=1e-5)
    long = drawing.pattern("stripes", Extreme(1), CENTRE, 0.0)[30, 20:29]
    wanted = [0.75, 1, 1, 1, 0.75, 0.5, 0.5, 0.5, 0.75]
    np.testing.assert_allclose(long, np.broadcast_to(np.c_[wanted], (9, 3)), atol=1e-5)
    checks = drawing.pattern("checks", Extreme(1), CENTRE, 0.0)[30 + 2, 20:29, 0]
    np.testing.assert_allclose(checks, wanted, atol=1e-5)


def test_the_power_of_noise_is_gaussian_about_its_frequencies():
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    power = lambda away: stats.norm.pdf(away, scale=0.025) / stats.norm.pdf(0, scale=0.025)
    blob = lambda y, x: power(np.hypot(fy - y, fx - x)) + power(np.hypot(fy + y, fx + x))
    for share, frequency in ((0, 0.12), (0.25, 0.14), (1, 0.2)):
        y, x = frequency * np.sin(np.pi * share), frequency * np.cos(np.pi * share)
        expected = {
            "grain": np.ones((64, 64)),
            "spots": power(np.hypot(fy, fx) - frequency),
            "stripes": blob(y, x),
            "weave": blob(y, x) + blob(x, -y),
        }
        for kind, spectrum in expected.items():
            found = np.fft.fft2(drawing.noise(kind, Extreme(share)))
            np.testing.assert_allclose(found, spectrum, atol=1e-4, err_msg=kind)


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
    np.testing.assert_allclose(half.std((0, 1)), found.std((0, 1)) / 2, rtol=1e-4)
    np.testing.assert_allclose(half + half, found + grey, rtol=1e-4)


@pytest.mark.parametrize(("share", "mean", "contrast"), [(0, 0.15, 0.15), (1, 0.9, 0.25)])
def test_the_range_of_other_colours(share, mean, contrast):
    piece = np.zeros((SIDE, SIDE, 3))
    piece[::2] = (0.1, 0.2, 0.6)
    found = drawing.recoloured(piece, Extreme(share))
    gain = contrast / (np.sqrt(np.mean(piece**2) - np.mean(piece) ** 2) + 0.05)
    np.testing.assert_allclose(found[0, 0], mean + gain * np.array([0.3, 0.1, 0.05]), rtol=1e-5)
    np.testing.assert_allclose(found[1, 0], mean - gain * np.array([0.3, 0.1, 0.05]), rtol=1e-5)


def test_colours_are_within_their_levels():
    many = np.array([drawing.colour(np.random.default_rng(k), 0.2, 0.4) for k in range(99)])
    assert many.dtype == np.float32
    assert 0.2 <= many.min() < 0.22 < 0.38 < many.max() <= 0.4
    assert drawing.colour(Extreme(0)).tolist() == pytest.approx([0.15] * 3)
    assert drawing.colour(Extreme(1)).tolist() == pytest.approx([0.9] * 3)


@pytest.mark.parametrize(("share", "scale"), [(0, 0.5), (0.1, 0.565), (0.7, 0.955), (1, 1.15)])
def test_a_piece_is_turned_and_scaled_and_inside_its_picture(share, scale):
    """In a picture of its own coordinates, every pixel of a piece tells where it is from."""
    y, x = np.mgrid[:106, :128]
    picture = Image.fromarray(np.stack([x, y, 0 * x + 255], -1).astype(np.uint8))
    turn = scale * np.exp(2j * np.pi * share)
    reach = (abs(turn.real) + abs(turn.imag)) * 32
    middle = reach + share * (128 - 2 * reach) + 1j * (reach + share * (106 - 2 * reach))
    wanted = middle + turn * (X - 31.5 + 1j * (Y - 31.5)) - (1 + 1j)  # Pillow rounds down
    found = drawing._piece(picture, Extreme(share)) * 255
    np.testing.assert_allclose(found[..., 0], wanted.real, atol=0.76)
    np.testing.assert_allclose(found[..., 1], wanted.imag, atol=0.76)
    assert (found[..., 2] == 255).all()


def changes(picture):
    """The mean absolute difference of grey values one below the other."""
    grey = picture.sum(-1) / 3
    return np.abs(grey[1:] - grey[:-1]).mean()


def test_pieces_without_a_pattern_are_not_used():
    ramp = 0.02 * Y[..., None] + 0.3 * X[..., None] * (0, 1, 2)
    assert drawing._activity(ramp) == pytest.approx(0.02, rel=1e-3)
    found = [changes(drawing.photograph("test", np.random.default_rng(k))) for k in range(40)]
    assert 0.012 < min(found) < 0.014


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


@pytest.mark.parametrize(("turn", "angle"), [(0, 0), (3, np.pi / 2), (2, np.pi)])
def test_a_digit_of_its_own_size_is_scikit_learns(turn, angle):
    """One pixel of the canvas is one of the digit; half of the range is the outline."""
    ink = np.rot90(load_digits().images[4::5][rng().integers(359)] / 16, turn)
    edge = drawing.digit("test", rng(), CENTRE, 4, angle)
    np.testing.assert_allclose(edge[30 - 4 : 30 + 4, 20 - 4 : 20 + 4], 0.45 - ink, atol=1e-6)
    assert (edge.min(), edge[0, 0], edge[63, 63]) == pytest.approx((-0.55, 0.45, 0.45))
    assert drawing.digit("test", rng(), CENTRE, 16, angle)[0, 63] == pytest.approx(4 * 0.45)


def test_tiles_come_from_their_places_in_the_photographs():
    """A split uses another column in each row of tiles; tiles without a pattern are left out."""
    columns = {"test": ((4,), (2,), (0,), (3,)), "val": ((3,), (1,), (4,), (2,))}
    columns["train"] = ((0, 1, 2), (0, 3, 4), (1, 2, 3), (0, 1, 4))
    for split, rows in columns.items():
        tiles = [
            photo[106 * row : 106 * row + 106, 128 * column : 128 * column + 128]
            for photo in load_sample_images().images
            for row, chosen in enumerate(rows)
            for column in chosen
        ]
        expected = [tile for tile in tiles if changes(tile / 255) > 0.008]
        found = [np.asarray(tile) for tile in drawing._tiles(split)]
        np.testing.assert_array_equal(found, expected)


def test_splits_share_no_tile_and_no_digit():
    tiles, digits = {}, {}
    for split in drawing.SHARE:
        tiles[split] = {tile.tobytes() for tile in drawing._tiles(split)}
        digits[split] = len(drawing._glyphs(split))
    assert all(tiles.values())
    assert sum(map(len, tiles.values())) == len(set.union(*tiles.values()))
    assert sum(digits.values()) == 1797
