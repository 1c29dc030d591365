"""`scenes`: generated images of objects, with depth and a label map, as a TFDS data set.

Objects stand in front of a textured wall and hide one another. A noisy camera and a noisy
depth sensor with blind spots observe them. Textures are pieces of the two photographs of
scikit-learn, and one class is its handwritten digits; the splits share neither. What
distinguishes the classes depends on the config:

- `rgb`: outline and pattern. Every class occurs in every colour.
- `texture`: the power spectrum of the surface. Every region holds the same grey values
  (quantiles of one normal distribution) in another order; outlines do not matter.
- `depth`: the shape of the front. Outlines and surfaces do not matter.

Drawn from fixed seeds, without network and without TensorFlow.
"""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from scipy import special

from launch.data.builtin import drawing
from launch.data.builtin.drawing import SIDE

IGNORED = 255
CLASSES = {
    "rgb": ("wall", "ball", "box", "triangle", "star", "digit"),
    "texture": ("photograph", "grain", "spots", "stripes", "weave"),
    "depth": ("wall", "plate", "slope", "bulge", "recess"),
}
PATTERNS = {"box": "checks", "triangle": "specks", "star": "stripes", "digit": "plain"}
SIZES = {"train": 1600, "val": 200, "test": 400}


class Builder(tfds.core.GeneratorBasedBuilder):
    """1,600 training, 200 validation and 400 test scenes of 64 x 64 pixels."""

    name = "scenes"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=f"Classes: {', '.join(classes)}.")
        for name, classes in CLASSES.items()
    ]

    @classmethod
    def _get_pkg_dir_path(cls):
        # TFDS looks here for a README and checksums; we give it the docstring instead.
        from etils import epath

        return epath.Path(__file__).parent

    def _info(self):
        return self.dataset_info_from_configs(
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), dtype=np.uint8),
                    "segmentation": tfds.features.Image(shape=(SIDE, SIDE, 1), dtype=np.uint8),
                    # Millimetres, 0 where unknown. A tensor, because TFDS reads PNG of 16
                    # bits only with TensorFlow or OpenCV.
                    "depth": tfds.features.Tensor(
                        shape=(SIDE, SIDE, 1), dtype=np.uint16, encoding="zlib"
                    ),
                }
            ),
            supervised_keys=("image", "segmentation"),
            metadata=tfds.core.MetadataDict(classes=CLASSES[self.builder_config.name]),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        for number in range(SIZES[split]):
            image, labels, depth = scene(self.builder_config.name, split, number)
            # Encoded here, because the encoder of TFDS needs TensorFlow.
            yield number, {"image": _png(image), "segmentation": _png(labels), "depth": depth}


def scene(config: str, split: str, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws one scene.

    Args:
      config: "rgb", "texture" or "depth".
      split: "train", "val" or "test".
      number: from 0; config, split and number decide everything.

    Returns:
      image uint8 [64, 64, 3]; labels uint8 [64, 64], 255 at pixels that an edge divides
      in half; depth uint16 [64, 64, 1] in millimetres, 0 where unknown.
    """
    seed = [list(CLASSES).index(config), list(SIZES).index(split), number]
    rng = np.random.default_rng(seed)
    centre = (SIDE / 2, SIDE / 2)
    distance = rng.uniform(2.4, 3.4)
    wall = drawing.plane(distance, centre, rng.uniform(0, 0.004), rng.uniform(0, 2 * np.pi))
    if config == "texture":
        image = drawing.photograph(split, rng).mean(-1, keepdims=True)
    else:
        dull = 0.5 if config == "rgb" else 0
        image = drawing.recoloured(drawing.photograph(split, rng), rng, dull)
    depth, light = wall, rng.uniform(0, 2 * np.pi)
    labels, owner = np.zeros((2, SIDE, SIDE), np.uint8)
    for place, (name, metres) in enumerate(_things(config, distance, rng), 1):
        edge, surface, front = _OBJECTS[config](name, split, rng, metres, wall, light)
        label = CLASSES[config].index(name)
        halved = (np.abs(edge) < 0.1) & (labels != label)
        inside = edge < 0
        # A blend of two materials would look like a third one.
        share = inside if config == "texture" else drawing.coverage(edge)
        image = image + share[..., None] * (surface - image)
        depth = np.where(inside, front, depth)
        labels[inside] = label
        labels[halved] = IGNORED
        owner[inside] = place
    image = _same_histogram(image, owner, rng) if config == "texture" else _lit(image, rng)
    return _camera(image, rng), labels, _depth_sensor(depth, rng)


def _things(config, wall, rng):
    """Names and distances (metres) of a scene's objects, in the order of painting."""
    names = CLASSES[config]
    first = 0 if config == "depth" else 1
    chosen = [names[label] for label in rng.integers(first, len(names), rng.integers(2, 5))]
    chosen.sort(key=("wall", "recess").__contains__, reverse=True)  # those on the wall first
    return zip(chosen, -np.sort(-rng.uniform(1.2, wall - 0.9, len(chosen))), strict=True)


def _pose(rng):
    """A random centre on the canvas, a radius and an angle."""
    return rng.uniform(8, SIDE - 8, 2), rng.uniform(11, 20), rng.uniform(0, 2 * np.pi)


def _any_outline(rng):
    """A random outline with its centre, radius and angle."""
    centre, radius, angle = _pose(rng)
    kind = drawing.OUTLINES[rng.integers(len(drawing.OUTLINES))]
    return centre, radius, angle, drawing.outline(kind, centre, radius, angle)


def _thing(name, split, rng, distance, wall, light):
    """Config `rgb`: outline and pattern depend on the class, colours do not."""
    centre, radius, angle = _pose(rng)
    front = drawing.plane(distance, centre, rng.uniform(0, 0.01), angle)
    if name == "ball":
        edge = drawing.outline("disc", centre, radius, 0)
        front = drawing.bulge(distance, centre, radius, 0.25)
        return edge, _shaded(drawing.colour(rng), centre, radius, light), front
    if name == "digit":
        edge = drawing.digit(split, rng, centre, 1.3 * radius, rng.uniform(-0.5, 0.5))
    else:
        edge = drawing.outline(name, centre, radius if name == "box" else 1.2 * radius, angle)
    return edge, drawing.pattern(PATTERNS[name], rng, centre, angle), front


def _shaded(colour, centre, radius, light):
    """Lambert's law on a ball, lit from the side and the front."""
    along, across = drawing.turned(centre, light)
    towards = np.sqrt(np.clip(radius**2 - along**2 - across**2, 0, None))
    return (
        colour * (0.35 + 0.75 * np.clip(0.6 * along + 0.8 * towards, 0, None) / radius)[..., None]
    )


def _material(name, split, rng, distance, wall, light):
    """Config `texture`: the power spectrum of the surface depends on the class."""
    centre, _, angle, edge = _any_outline(rng)
    front = drawing.plane(distance, centre, rng.uniform(0, 0.01), angle)
    return edge, drawing.noise(name, rng)[..., None], front


def _stance(name, split, rng, distance, wall, light):
    """Config `depth`: the front depends on the class; a picture on the wall is wall."""
    centre, radius, _, edge = _any_outline(rng)
    surface = drawing.recoloured(drawing.photograph(split, rng), rng)
    slope, height, hollow, turn = rng.uniform((0.035, 0.4, 0.3, 0), (0.05, 0.6, 0.8, 2 * np.pi))
    if name == "slope":
        front = drawing.plane(distance, centre, slope, turn)
    elif name == "bulge":
        front = drawing.bulge(distance, centre, radius, height)
    else:
        front = {"wall": wall, "plate": np.full_like(wall, distance), "recess": wall + hollow}[name]
    return edge, surface, front


_OBJECTS = {"rgb": _thing, "texture": _material, "depth": _stance}


def _same_histogram(image, owner, rng):
    """Gives every region the same grey values: quantiles of one normal distribution."""
    grey = image[..., 0] + rng.normal(0, 0.02, (SIDE, SIDE))
    level, spread = rng.uniform(0.4, 0.6), rng.uniform(0.1, 0.16)
    for place in np.unique(owner):
        region = owner == place
        ranks = np.argsort(np.argsort(grey[region]))
        grey[region] = level + spread * special.ndtri((ranks + 0.5) / len(ranks))
    return grey[..., None] * rng.uniform(0.85, 1.15, 3)


def _lit(image, rng):
    """Lights the whole image unevenly."""
    along, _ = drawing.turned((SIDE / 2, SIDE / 2), rng.uniform(0, 2 * np.pi))
    return image * (rng.uniform(0.8, 1.1) + rng.uniform(0, 0.25) * along / SIDE)[..., None]


def _camera(image, rng):
    """Adds the noise of a camera and rounds to 8 bits."""
    noisy = image + rng.normal(0, rng.uniform(0.01, 0.03), image.shape)
    return np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)


def _depth_sensor(depth, rng):
    """Adds noise that grows with distance, and blind spots (0); gives millimetres."""
    # The axial noise of a Kinect, Nguyen et al. 2012: sigma = 1.2 mm + 1.9 mm (z - 0.4 m)^2.
    sigma = 0.0012 + 0.0019 * (depth - 0.4) ** 2
    millimetres = 1000 * (depth + rng.normal(size=depth.shape) * sigma)
    jump = np.abs(np.diff(depth, axis=1, append=depth[:, -1:])) > 0.15
    blind = rng.random(depth.shape) < np.where(jump, 0.5, 0.01)
    y, x = rng.uniform(0, SIDE, 2)
    blind |= np.hypot(drawing.Y - y, drawing.X - x) < rng.uniform(0, 5)
    return np.where(blind, 0, np.round(millimetres)).astype(np.uint16)[..., None]


def _png(image: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    stream.seek(0)
    return stream
