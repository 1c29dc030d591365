"""A folder of images as a data set: `config.data.name = "launch.data.pictures:pictures"`.

    DIR/any.jpg, DIR/any/folder/0001.png         divided into train and test
    DIR/train/0001.png, DIR/test/0002.png        as they are divided
    DIR/cat/1.jpg, DIR/train/dog/2.jpg           with classes, if labels=True

Each image is turned upright and scaled so that its shorter side has `size` pixels
(antialiased), and the centre square is kept.
"""

from launch.data.pictures.dataset import Pictures, pictures

__all__ = ["Pictures", "pictures"]
