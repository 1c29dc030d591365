"""Stock TFDS segmentation sets as `image` and `segmentation`, for `config.data.preprocess`.

config.data.name = "oxford_iiit_pet"
config.data.preprocess = {"name": "launch.data.stock:pets", "size": (128, 128)}
"""

import numpy as np
from PIL import Image

from launch.data.classes import IGNORED
from launch.data.images import BadFile, pixel

PETS = ("pet", "background", "border")
# The 19 classes of the Cityscapes benchmark, by their id in the label files.
CITYSCAPES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
# Its stereo camera: distance of the lenses in metres, focal length in pixels of 2048.
BASELINE, FOCAL_LENGTH = 0.209313, 2262.52


def pets(example: dict, size: int | tuple[int, int]) -> dict[str, np.ndarray]:
    """Oxford-IIIT Pet: 0 pet, 1 background, 2 the border between, which no one decided.

    Args:
      example: of `oxford_iiit_pet`, with `image` and `segmentation_mask` (1, 2, 3).
      size: (height, width), or one number for both; the photo is stretched to it.

    Returns:
      image uint8 [H, W, 3], segmentation uint8 [H, W, 1].

    Raises:
      BadFile: a key is missing, or an id is not 1, 2 or 3.
    """
    image, mask = _taken(example, "oxford_iiit_pet", "image", "segmentation_mask")
    ids = _known("oxford_iiit_pet: segmentation_mask", mask, (1, 2, 3)) - 1
    return {"image": resized(image, size), "segmentation": resized(ids, size, False)[..., None]}


def breeds(example: dict, size: int | tuple[int, int]) -> dict[str, np.ndarray]:
    """Oxford-IIIT Pet as classification: `image` at one size and the breed as `label`."""
    image, label = _taken(example, "oxford_iiit_pet", "image", "label")
    return {"image": resized(image, size), "label": label}


def cityscapes(example: dict, size: int | tuple[int, int]) -> dict[str, np.ndarray]:
    """Cityscapes: the 19 classes of the benchmark; its other 15 ids are ignored.

    Args:
      example: of `cityscapes`, with `image_left`, `segmentation_label` (ids 0 to 33)
        and, where a data set has both, `disparity_map` of 16 bits.
      size: (height, width), or one number for both.

    Returns:
      image uint8 [H, W, 3]; segmentation uint8 [H, W, 1], 255 where ignored; and with
      a disparity map, depth float32 [H, W, 1] in metres, 0 where unknown.

    Raises:
      BadFile: a key is missing, an id is out of range, or the disparity has 8 bits.
    """
    image, mask = _taken(
        example, "cityscapes/semantic_segmentation", "image_left", "segmentation_label"
    )
    # A licence plate has the id -1, which 8 bits hold as 255.
    ids = _known("cityscapes: segmentation_label", mask, (*range(34), 255))
    train_ids = np.full(256, IGNORED, np.uint8)
    train_ids[list(CITYSCAPES)] = np.arange(len(CITYSCAPES))
    found = {
        "image": resized(image, size),
        "segmentation": resized(train_ids[ids], size, False)[..., None],
    }
    if "disparity_map" in example:
        depth = depth_of_disparity(example["disparity_map"][..., 0])
        found["depth"] = resized(depth, size, False)[..., None]
    return found


def depth_of_disparity(disparity: np.ndarray) -> np.ndarray:
    """Metres, float32, of Cityscapes' 16-bit disparity: p > 0 means (p - 1) / 256 pixels.

    Raises:
      BadFile: it has 8 bits, as TFDS 4.9's own builder reads it: the upper 8 are lost.
    """
    if disparity.dtype == np.uint8:
        cure = "Read its PNG files in a data set of your own, or leave the key out."
        raise BadFile("cityscapes: disparity_map", "8 bits of 16", cure)
    pixels = (disparity.astype(np.float32) - 1) / 256
    known = pixels > 0
    return np.where(known, BASELINE * FOCAL_LENGTH / np.where(known, pixels, 1), 0).astype(
        np.float32
    )


def resized(array: np.ndarray, size: int | tuple[int, int], smooth: bool = True) -> np.ndarray:
    """Resizes [H, W, ...]: pictures by averaging, ids and depth to the nearest pixel."""
    height, width = (size, size) if isinstance(size, int) else size
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array).resize((width, height), how))


def _known(title, mask, allowed):
    """The ids of a mask [H, W, 1], uint8 [H, W], all of them allowed."""
    ids = mask[..., 0]
    wrong = ~np.isin(ids, allowed)
    if wrong.any():
        place = wrong.argmax()
        what = f"id {ids.flat[place]}, which the data set does not have"
        raise BadFile(title, what, "Prepare the data set again.", pixel(place, ids))
    return ids.astype(np.uint8)


def _taken(example, title, *keys):
    for key in keys:
        if key not in example:
            what = f"examples have no {key!r} (they have {', '.join(sorted(example))})"
            raise BadFile("config.data.preprocess", what, f"It is made for {title}.")
    return [example[key] for key in keys]
