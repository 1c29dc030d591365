"""Functions for `config.data.preprocess` that adapt segmentation data sets of TFDS.

config.data.name = "oxford_iiit_pet"
config.data.preprocess = {"name": "launch.data.stock:pets", "size": (128, 128)}
"""

import numpy as np
from PIL import Image

from launch.data.bad_file import BadFile, pixel
from launch.data.classes import IGNORED

PETS = ("pet", "background", "border")
# The 19 classes of the Cityscapes benchmark (Cordts et al. 2016), by the id in the files.
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
# Its stereo camera: the distance of the lenses in metres; the focal length in pixels of an
# image of 2048 x 1024.
BASELINE, FOCAL_LENGTH = 0.209313, 2262.52


def pets(example: dict, size: int | tuple[int, int]) -> dict[str, np.ndarray]:
    """Oxford-IIIT Pet (Parkhi et al. 2012): classes 0 pet, 1 background, 2 border.

    Args:
      example: of `oxford_iiit_pet`, with `image` uint8 [H', W', 3] and
        `segmentation_mask` uint8 [H', W', 1] (ids 1, 2, 3).
      size: (height, width), or one number for both; the photo is stretched to it.

    Returns:
      image uint8 [H, W, 3], segmentation uint8 [H, W, 1].

    Raises:
      BadFile: a key is missing, or an id is not 1, 2 or 3.
    """
    image, mask = _values(example, "oxford_iiit_pet", "image", "segmentation_mask")
    ids = _check_ids("oxford_iiit_pet: segmentation_mask", mask, (1, 2, 3)) - 1
    return {"image": resized(image, size), "segmentation": resized(ids, size, False)[..., None]}


def breeds(example: dict, size: int | tuple[int, int]) -> dict[str, np.ndarray]:
    """Oxford-IIIT Pet for classification: the breed is the label.

    Args:
      example: of `oxford_iiit_pet`, with `image` uint8 [H', W', 3] and `label`.
      size: (height, width), or one number for both; the photo is stretched to it.

    Returns:
      image uint8 [H, W, 3], label an integer.

    Raises:
      BadFile: a key is missing.
    """
    image, label = _values(example, "oxford_iiit_pet", "image", "label")
    return {"image": resized(image, size), "label": label}


def cityscapes(example: dict, size: int | tuple[int, int]) -> dict[str, np.ndarray]:
    """Cityscapes: the 19 classes of the benchmark; the other 15 ids become ignored.

    Args:
      example: of `cityscapes`, with `image_left` uint8 [H', W', 3], `segmentation_label`
        uint8 [H', W', 1] (ids 0 to 33) and, optionally, `disparity_map` of 16 bits.
      size: (height, width), or one number for both; images are stretched to it.

    Returns:
      image uint8 [H, W, 3]; segmentation uint8 [H, W, 1], 255 where ignored; and with
      a disparity map, depth float32 [H, W, 1] in metres, 0 where unknown.

    Raises:
      BadFile: a key is missing, an id is out of range, or the disparity has 8 bits.
    """
    image, mask = _values(
        example, "cityscapes/semantic_segmentation", "image_left", "segmentation_label"
    )
    # A licence plate has the id -1, which is 255 in 8 bits.
    ids = _check_ids("cityscapes: segmentation_label", mask, (*range(34), 255))
    train_ids = np.full(256, IGNORED, np.uint8)
    train_ids[list(CITYSCAPES)] = np.arange(len(CITYSCAPES))
    adapted = {
        "image": resized(image, size),
        "segmentation": resized(train_ids[ids], size, False)[..., None],
    }
    if "disparity_map" in example:
        depth = depth_of_disparity(example["disparity_map"][..., 0])
        adapted["depth"] = resized(depth, size, False)[..., None]
    return adapted


def depth_of_disparity(disparity: np.ndarray) -> np.ndarray:
    """Converts Cityscapes' disparity to depth: baseline * focal length / disparity.

    Args:
      disparity: integers [H, W]; a value p > 0 means (p - 1) / 256 pixels, 0 unknown.

    Returns:
      float32 [H, W] in metres, 0 where unknown.

    Raises:
      BadFile: the disparity has 8 bits. The builder of TFDS 4.9 drops the upper 8 of 16.
    """
    if disparity.dtype == np.uint8:
        fix = "Read its PNG files in a data set of your own, or leave the key out."
        raise BadFile("cityscapes: disparity_map", "8 bits of 16", fix)
    pixels = (disparity.astype(np.float32) - 1) / 256
    known, metres = pixels > 0, np.zeros_like(pixels)
    metres[known] = BASELINE * FOCAL_LENGTH / pixels[known]
    return metres


def resized(array: np.ndarray, size: int | tuple[int, int], smooth: bool = True) -> np.ndarray:
    """Resizes an array, without keeping the aspect ratio.

    Args:
      array: [H', W'] or [H', W', C].
      size: (height, width), or one number for both.
      smooth: averages neighbours, for images; if False, takes the nearest pixel, for
        ids and depth.

    Returns:
      [H, W] or [H, W, C] of the same dtype.
    """
    height, width = (size, size) if isinstance(size, int) else size
    filtering = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array).resize((width, height), filtering))


def _check_ids(title, mask, allowed):
    """The ids of a mask [H, W, 1] as uint8 [H, W]; refuses ids that are not allowed."""
    ids = mask[..., 0]
    wrong = ~np.isin(ids, allowed)
    if wrong.any():
        index = wrong.argmax()
        problem = f"id {ids.flat[index]}, which the data set does not have"
        raise BadFile(title, problem, "Prepare the data set again.", pixel(index, ids))
    return ids.astype(np.uint8)


def _values(example, title, *keys):
    """The values of an example; refuses an example that lacks a key."""
    for key in keys:
        if key not in example:
            problem = f"examples have no {key!r} (they have {', '.join(sorted(example))})"
            raise BadFile("config.data.preprocess", problem, f"It is made for {title}.")
    return [example[key] for key in keys]
