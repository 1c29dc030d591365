"""What a user says of a folder of images and masks."""

import dataclasses

from launch.data import classes as labels
from launch.data import images
from launch.data.folders import folds
from launch.data.folders.masks import VALUES

TARGETS = ("", "objects", "labels")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user says of a folder; the arguments of `launch.data.folders:folder`.

    Attributes:
      classes: K; 0 to find out.
      ignore: the id that means void in the files.
      size: (height, width) of the examples; (0, 0) for the largest image.
      limit: the longest side that `size` (0, 0) gives.
      scale: the factor by which images are scaled, after which those larger than `size` are
        cut into tiles; 0 to scale them down until they fit `size`.
      seed: changes how a folder without splits is divided.
      layout: the kind to take where several fit.
      masks: the endings or folders of the masks to take, separated by commas.
      values: the meaning of the masks' values, see `mask_files.read_mask`; "" to find out.
      orientation: "upright" turns images as their EXIF orientation says, "stored" does not;
        "" where sizes tell.
      channels: of the images; 0 to find out.
      intensity: (low, high), the values that become 0 and 255; () to find out.
      target: "" for an id a pixel; "objects" for the number of its object; "labels" for a yes or
        no of each class, which may overlap.
      val: share of `train` that becomes `val` where there is none.
      fold: "2/5" divides train and val anew into five parts, and the second is `val`.
      group: a regular expression whose first group, found in the paths of images, is common to
        those that stay in one part; see `folds.divide`.
    """

    classes: int = 0
    ignore: int = 255
    size: tuple[int, int] = (0, 0)
    limit: int = 512
    scale: float = 0.0
    seed: int = 0
    layout: str = ""
    masks: str = ""
    values: str = ""
    orientation: str = ""
    channels: int = 0
    intensity: tuple[float, ...] = ()
    target: str = ""
    val: float = 0.1
    fold: str = ""
    group: str = ""

    def check(self) -> None:
        """Refuses arguments that are out of range.

        Raises:
          ValueError: names the argument.
        """
        if (0 in self.size) != (self.size == (0, 0)):
            raise ValueError(f"size={self.size}: give both sides, or 0 for the largest image")
        if len(self.size) != 2 or min(self.size) < 0 or self.limit < 1:
            raise ValueError(
                f"size and limit must be whole pixels, got {self.size} and {self.limit}"
            )
        if not 0 <= self.scale <= 8:
            raise ValueError(f"scale must be a factor up to 8, or 0 to fit, got {self.scale}")
        if not 0 <= self.classes <= labels.MOST:
            raise ValueError(f"classes must be 0 (find out) to {labels.MOST}, got {self.classes}")
        if abs(self.ignore) >= 2**31:
            raise ValueError(f"ignore is an id of at most 31 bits, got {self.ignore}")
        if self.values not in ("", *VALUES):
            raise ValueError(f"values must be {', '.join(VALUES)} or empty, got {self.values!r}")
        if self.target not in TARGETS:
            raise ValueError(f"target must be objects, labels or empty, got {self.target!r}")
        if self.target == "objects" and self.values not in ("", "instances"):
            raise ValueError(
                f'target="objects" reads numbers of objects; values={self.values!r} has none'
            )
        if self.orientation not in ("", "upright", "stored"):
            raise ValueError(f"orientation must be upright or stored, got {self.orientation!r}")
        if not 0 <= self.val < 1:
            raise ValueError(f"val must be a share in [0, 1), got {self.val}")
        if self.fold and self.val != Options.val:
            raise ValueError(f"val={self.val} has no effect: fold={self.fold} decides what is val")
        folds.check(self.fold, self.group)
        if self.channels < 0:
            raise ValueError(f"channels must be 1 or more, or 0 to find out, got {self.channels}")
        low_high = self.intensity
        if low_high and not (
            len(low_high) == 2 and -images.LARGEST <= low_high[0] < low_high[1] <= images.LARGEST
        ):
            raise ValueError(
                f"intensity must be (low, high) with low < high, both within {images.LARGEST:g}, "
                f"got {low_high}"
            )
