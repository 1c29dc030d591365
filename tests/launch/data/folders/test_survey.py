import json

import numpy as np
import pytest
from PIL import Image

from launch.data.folders import survey
from launch.data.folders.masks import MaskRule
from launch.data.folders.pairs import Pair

IMAGE = np.random.default_rng(0).integers(0, 256, (10, 14, 3), np.uint8)
MASK = np.zeros((10, 14), np.uint8)
MASK[2:5, 3:9], MASK[7, 7] = 2, 5


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def pair(root, image=IMAGE, mask=MASK, **options):
    paths = save(root / "a.png", image, **options), save(root / "m.png", mask)
    return Pair("a", paths[0], paths[1:])


def test_the_contents_of_a_pair(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = survey.read(pair(tmp_path, exif=exif), MaskRule())
    assert (found.size, found.dtype, found.channels, found.alpha) == ((10, 14), "uint8", 3, "")
    assert (found.orientation, found.mask_orientation, found.mask_size) == (6, 1, (10, 14))
    assert found.counts == {0: 121, 2: 18, 5: 1}
    assert len(found.ranges) == 3
    assert (found.errors, found.depth, found.alpha_labels) == ([], None, False)
    changed = IMAGE.copy()
    changed[0, 0, 0] ^= 1
    assert survey.read(pair(tmp_path, changed, exif=exif), MaskRule()).digest != found.digest
    assert survey.read(pair(tmp_path), MaskRule()).digest != found.digest


@pytest.mark.parametrize(("alpha", "kind"), [(255, "opaque"), (0, "opaque"), (None, "varies")])
def test_transparency(tmp_path, alpha, kind):
    last = IMAGE[..., 0] if alpha is None else np.full_like(IMAGE[..., 0], alpha)
    found = survey.read(pair(tmp_path, np.dstack([IMAGE, last])), MaskRule())
    assert (found.channels, found.alpha, len(found.ranges)) == (3, kind, 4)


def test_connected_objects(tmp_path):
    objects = np.zeros((10, 14), np.uint8)
    for number in range(10):
        objects[number // 5 * 5, number % 5 * 2] = objects[
            number // 5 * 5 + 1, number % 5 * 2 + 1
        ] = number + 1
    assert survey.read(pair(tmp_path, mask=objects), MaskRule()).objects is True
    objects[9, 13] = 1
    assert survey.read(pair(tmp_path, mask=objects), MaskRule()).objects is True  # 9 of 10
    objects[9, 12], objects[9, 13] = 1, 2
    assert survey.read(pair(tmp_path, mask=objects), MaskRule()).objects is False
    assert survey.read(pair(tmp_path), MaskRule()).objects is None


def test_depth(tmp_path):
    depth = np.zeros((10, 14), np.uint16)
    depth[:5] = 1250
    depth[0] = 3000
    one = pair(tmp_path)
    with_depth = Pair("a", one.image, one.masks, save(tmp_path / "d.png", depth))
    assert survey.read(with_depth, MaskRule()).depth == pytest.approx((1.25, 3.0, 0.5))
    save(tmp_path / "d.png", depth[:9])
    (bad,) = survey.read(with_depth, MaskRule()).errors
    assert bad.problem == "is 14 x 9, its image 14 x 10"
    save(tmp_path / "d.png", depth * 0)
    assert survey.read(with_depth, MaskRule()).depth == (0, 0, 1)


def test_every_file_that_cannot_be_read_is_named(tmp_path):
    one = pair(tmp_path)
    for path in one.files:
        path.write_bytes(b"")
    found = survey.read(one, MaskRule())
    assert [bad.path for bad in found.errors] == [str(path) for path in one.files]
    assert (found.size, found.counts) == (None, {})


def test_the_survey_is_kept_until_something_changes(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    one, cache, asked = pair(tmp_path / "d"), tmp_path / "cache", []
    read = survey.read
    monkeypatch.setattr(survey, "read", lambda *given: asked.append(given) or read(*given))
    first = survey.survey([one], MaskRule(), cache, "s")
    assert survey.survey([one], MaskRule(), cache, "s") == first
    assert len(asked) == 1
    survey.survey([one], MaskRule("threshold"), cache, "s")
    survey.survey([one], MaskRule(), cache, "t")
    survey.survey([one, one], MaskRule(), cache, "s")
    assert len(asked) == 5
    for path in cache.iterdir():
        path.write_text(json.dumps([{"odd": 1}]))
    assert survey.survey([one], MaskRule(), cache, "s") == first
    assert len(asked) == 6


def test_what_has_errors_is_not_kept(tmp_path):
    one = pair(tmp_path)
    one.mask.write_bytes(b"")
    survey.survey([one], MaskRule(), tmp_path / "cache", "s")
    assert not (tmp_path / "cache").exists()


def test_many_pairs_are_announced(tmp_path, caplog):
    caplog.set_level("INFO", "segen")
    one = pair(tmp_path, IMAGE[:1, :1], MASK[:1, :1])
    survey.survey([one] * 499, MaskRule(), tmp_path / "c", "s")
    assert caplog.messages == []
    survey.survey([one] * 500, MaskRule(), tmp_path / "c", "s")
    assert caplog.messages == ["reading 500 pairs once, to see what they hold"]


def test_labels_in_the_transparency_are_noticed_where_nothing_is_said(tmp_path):
    hidden = np.dstack([np.full((*MASK.shape, 3), 9, np.uint8), MASK])
    assert survey.read(pair(tmp_path, mask=hidden), MaskRule()).alpha_labels
    assert not survey.read(pair(tmp_path, mask=hidden), MaskRule("ids")).alpha_labels
    found = survey.read(pair(tmp_path, mask=hidden), MaskRule("alpha"))
    assert (found.alpha_labels, found.counts) == (False, {0: 121, 2: 18, 5: 1})
