"""A folder of images and masks as a data set: `config.data.name = "launch.data.folders:folder"`.

    DIR/train/images/0001.jpg     DIR/train/masks/0001.png     (DIR/train/depth/0001.png)
    DIR/val/...                   DIR/test/...
    DIR/classes.csv               id,name or id,name,red,green,blue; or classes.txt

Many other arrangements are recognised, see docs/segmentation.md. A folder without splits is
divided 80/10/10. `python -m launch.check DIR` says how a folder is read and lists every
problem of it.
"""

from launch.data.folders.dataset import Folder, folder
from launch.data.folders.opening import open_folder

__all__ = ["Folder", "folder", "open_folder"]
