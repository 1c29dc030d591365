"""Masks given as outlines in annotation files: COCO, labelme and CVAT.

    DIR/annotations/instances_train2017.json   COCO, images in train2017/ or images/train2017/
    DIR/train/_annotations.coco.json           COCO as Roboflow exports it, beside the images
    DIR/train/a.json                           labelme, beside a.jpg
    DIR/annotations.xml                        CVAT for images 1.1, images in images/

Only COCO needs a library of its own: pip install '.[coco]'.
"""

from pathlib import Path

from launch.data.outlines import coco, cvat, labelme
from launch.data.outlines.drawing import draw
from launch.data.outlines.shapes import Annotations, Outlined, Shape

__all__ = ["Annotations", "Outlined", "Shape", "draw", "find"]


def find(root) -> list[Annotations]:
    """Reads the annotation files of a folder.

    Args:
      root: the folder.

    Returns:
      One entry for each kind that it holds, in the order COCO, labelme, CVAT; none where
      it holds no such file. Other JSON and XML files are skipped.

    Raises:
      BadFile: a folder cannot be read.
    """
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        return []
    found = (kind.find(root) for kind in (coco, labelme, cvat))
    return [annotations for annotations in found if annotations]
