"""Draws the parts of a generated scene: outlines, surfaces and depths on a square canvas.

An outline is a signed distance in pixels, negative inside. So an edge can be drawn
smoothly (`coverage`) and still divides the pixels into two sets. Arrays are [SIDE, SIDE]
with y before x; angles are in radians.
"""

import functools

import numpy as np
from PIL import Image

SIDE = 64  # height and width of a scene, in pixels
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float32)
# Each photograph is cut into 4 x 5 tiles of this height and width.
TILE = (106, 128)
# Which of every five tiles in a row, and of every five digits, a split may use.
SHARE = {"train": (0, 1, 2), "val": (3,), "test": (4,)}
OUTLINES = ("disc", "box", "triangle", "star")


def coverage(distance: np.ndarray) -> np.ndarray:
    """Computes how much of each pixel lies inside an outline.

    Args:
      distance: the signed distance to the outline, float [SIDE, SIDE].

    Returns:
      float [SIDE, SIDE] from 0 (outside) to 1 (inside).
    """
    return np.clip(0.5 - distance, 0, 1)


def outline(kind: str, centre, radius: float, angle: float) -> np.ndarray:
    """Draws one of `OUTLINES`.

    Args:
      kind: one of `OUTLINES`.
      centre: (y, x) in pixels.
      radius: the radius of the circle through the outermost points, in pixels.
      angle: the rotation.

    Returns:
      The signed distance, float [SIDE, SIDE].
    """
    u, v = turned(centre, angle)
    if kind == "disc":
        return np.hypot(u, v) - radius
    if kind == "box":
        return np.maximum(np.abs(u) - 0.8 * radius, np.abs(v) - 0.6 * radius)
    points = {"triangle": 3, "star": 5}[kind]
    # By symmetry one edge is enough: from a tip at radius 1 to a notch at 1/2. For a
    # triangle, the notch lies on the straight line between two tips.
    wedge = np.pi / points
    theta = np.abs(np.mod(np.arctan2(v, u) + wedge, 2 * wedge) - wedge)
    rho = np.hypot(u, v)
    edge = np.array([0.5 * np.cos(wedge) - 1, 0.5 * np.sin(wedge)])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return normal[0] * (rho * np.cos(theta) - radius) + normal[1] * rho * np.sin(theta)


def digit(split: str, rng: np.random.Generator, centre, radius: float, angle: float) -> np.ndarray:
    """Draws a handwritten digit; the splits share none.

    Args:
      split: "train", "val" or "test".
      rng: picks the digit.
      centre: (y, x) in pixels.
      radius: half the height of the digit, in pixels.
      angle: the rotation.

    Returns:
      The signed distance, approximately: float [SIDE, SIDE].
    """
    glyphs = _glyphs(split)
    cell = 2 * radius / 8  # the size of a pixel of the 8 x 8 glyph, which has a margin of 2
    cosine, sine = np.cos(angle) / cell, np.sin(angle) / cell
    y, x = centre
    affine = (cosine, sine, 6 - cosine * x - sine * y, -sine, cosine, 6 + sine * x - cosine * y)
    ink = glyphs[rng.integers(len(glyphs))].transform(
        (SIDE, SIDE), Image.AFFINE, affine, Image.BICUBIC
    )
    return (0.45 - np.asarray(ink)) * cell


def turned(centre, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Computes the coordinates of every pixel in a shifted and rotated frame.

    Args:
      centre: (y, x) of the origin, in pixels.
      angle: between the x axis and the u axis.

    Returns:
      (u, v), float [SIDE, SIDE] each, in pixels.
    """
    y, x = Y - centre[0], X - centre[1]
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def photograph(split: str, rng: np.random.Generator) -> np.ndarray:
    """Cuts a piece out of a photograph, at a random place, scale and angle.

    Pieces without a pattern, such as clear sky, are not used.

    Args:
      split: "train", "val" or "test"; the splits share no part of a photograph.
      rng: decides the photograph, the place, the scale and the angle.

    Returns:
      float32 [SIDE, SIDE, 3] in [0, 1].
    """
    tiles = _tiles(split)
    while True:
        piece = _piece(tiles[rng.integers(len(tiles))], rng)
        if _activity(piece) > 0.012:
            return piece


def recoloured(piece: np.ndarray, rng: np.random.Generator, dull: float = 0) -> np.ndarray:
    """Gives a surface other colours, with a random mean.

    Args:
      piece: float [SIDE, SIDE, 3].
      rng: decides the mean, the contrast, and the order of the channels.
      dull: how much colour and contrast are reduced, from 0 (not) to 1 (a grey plane).

    Returns:
      float [SIDE, SIDE, 3].
    """
    contrast = (1 - dull) * rng.uniform(0.15, 0.25) / (piece.std() + 0.05)
    mean = colour(rng)
    mean += dull * (mean.mean() - mean)
    return mean + contrast * (piece - piece.mean((0, 1)))[..., rng.permutation(3)]


def colour(rng: np.random.Generator, low: float = 0.15, high: float = 0.9) -> np.ndarray:
    """Picks a random colour.

    Args:
      rng: decides the colour.
      low: the lowest level of a channel, in [0, 1].
      high: the highest level.

    Returns:
      float32 [3].
    """
    return rng.uniform(low, high, 3).astype(np.float32)


def pattern(kind: str, rng: np.random.Generator, centre, angle: float) -> np.ndarray:
    """Draws a regular pattern of a light and a dark random colour.

    Args:
      kind: "plain" (one colour), "stripes", "checks" or "specks".
      rng: decides colours and scale.
      centre: (y, x) of a point where the wave of the pattern is 0, in pixels.
      angle: the rotation.

    Returns:
      float [SIDE, SIDE, 3].
    """
    if kind == "plain":
        return np.broadcast_to(colour(rng), (SIDE, SIDE, 3))
    u, v = turned(centre, angle)
    frequency = 2 * np.pi / rng.uniform(5, 8)
    wave = {
        "stripes": lambda: np.sin(frequency * u),
        "checks": lambda: np.sin(frequency * u) * np.sin(frequency * v),
        "specks": lambda: rng.normal(size=(SIDE, SIDE)),
    }[kind]()
    share = np.clip(0.5 + wave, 0, 1)[..., None]
    return colour(rng, 0.5, 1) * share + colour(rng, 0, 0.5) * (1 - share)


def noise(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draws Gaussian noise with a given power spectrum.

    Args:
      kind: "grain" (white), "spots" (a ring of frequencies), "stripes" (a pair of
        blobs: one orientation) or "weave" (two such pairs at right angles).
      rng: decides phases, scale and orientation.

    Returns:
      float [SIDE, SIDE].
    """
    white = rng.standard_normal((SIDE, SIDE))
    frequency, angle = rng.uniform(0.12, 0.2), rng.uniform(0, np.pi)
    if kind == "grain":
        return white
    fx = np.fft.rfftfreq(SIDE)
    fy = np.fft.fftfreq(SIDE)[:, None]
    width = 2 * 0.025**2
    if kind == "spots":
        gain = np.exp(-((np.hypot(fx, fy) - frequency) ** 2) / width)
    else:
        turns = (0, np.pi / 2) if kind == "weave" else (0,)
        gain = 0
        for turn in turns:
            u = np.cos(angle + turn) * fx + np.sin(angle + turn) * fy
            v = np.cos(angle + turn) * fy - np.sin(angle + turn) * fx
            gain = gain + np.exp(-((np.abs(u) - frequency) ** 2 + v**2) / width)
    return np.fft.irfft2(np.fft.rfft2(white) * gain, (SIDE, SIDE))


def plane(distance: float, centre, slope: float, angle: float) -> np.ndarray:
    """Computes the depth of a plane.

    Args:
      distance: the depth at the centre, in metres.
      centre: (y, x) in pixels.
      slope: in metres per pixel.
      angle: of the direction in which the depth grows.

    Returns:
      float [SIDE, SIDE] in metres.
    """
    return distance + slope * turned(centre, angle)[0]


def bulge(distance: float, centre, radius: float, height: float) -> np.ndarray:
    """Computes the depth of the front half of an ellipsoid.

    Args:
      distance: the depth of the rim and of everything outside, in metres.
      centre: (y, x) in pixels.
      radius: of the rim, in pixels.
      height: by how much the nearest point is nearer than the rim, in metres.

    Returns:
      float [SIDE, SIDE] in metres.
    """
    u, v = turned(centre, 0)
    return distance - height * np.sqrt(np.clip(1 - (u**2 + v**2) / radius**2, 0, 1))


def _activity(picture):
    """The mean difference of neighbouring rows, for pixels in [0, 1]."""
    return np.abs(np.diff(picture.mean(-1), axis=0)).mean()


def _piece(picture, rng):
    """A square of a PIL image, at a random place, scale and angle."""
    scale, angle = rng.uniform(0.5, 1.15), rng.uniform(0, 2 * np.pi)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    reach = (abs(cosine) + abs(sine)) * SIDE / 2
    x, y = (rng.uniform(reach, size - reach) for size in picture.size)
    half = SIDE / 2
    left, top = x - half * (cosine - sine), y - half * (sine + cosine)
    affine = (cosine, -sine, left, sine, cosine, top)
    piece = picture.transform((SIDE, SIDE), Image.AFFINE, affine, Image.BILINEAR)
    return np.asarray(piece, np.float32) / 255


@functools.cache
def _tiles(split):
    """The tiles of photographs that a split may use, as PIL images."""
    from sklearn import datasets  # a second that prepared data do without

    height, width = TILE
    tiles = (
        photo[y * height : (y + 1) * height, x * width : (x + 1) * width]
        for photo in datasets.load_sample_images().images
        for y in range(4)
        for x in range(5)
        if (x + 2 * y) % 5 in SHARE[split]
    )
    return [Image.fromarray(tile.copy()) for tile in tiles if _activity(tile / 255) > 0.008]


@functools.cache
def _glyphs(split):
    """The digits that a split may use, as PIL images of floats."""
    from sklearn import datasets

    ink = datasets.load_digits().images.astype(np.float32) / 16
    parts = [ink[part::5] for part in SHARE[split]]
    return [Image.fromarray(np.pad(glyph, 2)) for glyph in np.concatenate(parts)]
