import numpy as np
import pytest
import tifffile
from PIL import Image

from launch.config.errors import UserError
from launch.inference import results
from launch.inference.members import Files
from launch.inference.results import Place
from tests.launch.inference.test_geotiff import SCALE, tags_of, write

TURNED = [(274, "H", 1, 6, True), (33550, "d", 3, SCALE, True)]


def files_of(path, name=""):
    return Files(path, None, None, name)


def test_images_without_a_place_give_pngs(tmp_path, capsys):
    values = np.zeros((5, 7), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", values)
    tifffile.imwrite(tmp_path / "c.tif", values, extratags=TURNED, metadata=None)
    for name in ("a.png", "b.tif", "c.tif"):
        place = results.place_of(files_of(tmp_path / name), tmp_path, False)
        assert place == Place(tmp_path, name[0])
    assert (
        "c.tif: is turned upright, so its place on Earth is not carried" in capsys.readouterr().err
    )
    assert results.place_of(files_of(tmp_path / "c.tif"), tmp_path, True).header is not None


def test_pixels_without_data_are_those_of_the_file(tmp_path):
    values = np.ones((5, 7, 4), np.uint8)
    values[1, 2, :3], values[..., 3] = 0, 255  # the fourth channel is transparency
    path = write(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    place = results.place_of(files_of(path, "mon/a"), tmp_path, False)
    assert np.argwhere(place.empty).tolist() == [[1, 2]]
    assert place.path("masks", ".x") == tmp_path / "masks" / "mon" / "a.x.png"


MAPS = np.random.default_rng(0).random((5, 7, 2)).astype(np.float32)
EMPTY = np.arange(35).reshape(5, 7) == 8
EXPECTED = np.where(EMPTY[..., None], 0, MAPS)


def test_probabilities_as_one_array(tmp_path):
    results.save_probabilities(Place(tmp_path, "mon/a"), MAPS, ("x", "y"), "npy")
    found = np.load(tmp_path / "probabilities" / "mon" / "a.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, MAPS)
    results.save_probabilities(Place(tmp_path, "b", empty=EMPTY), MAPS, ("x", "y"), "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "probabilities" / "b.npy"), EXPECTED)


def test_probabilities_as_images_of_16_bits(tmp_path):
    maps = np.stack([np.zeros((2, 2)), np.ones((2, 2))], -1).astype(np.float32)
    maps[0, 0] = 0.25, 0.75
    results.save_probabilities(Place(tmp_path, "a"), maps, ("sky", "open water"), "png16")
    with Image.open(tmp_path / "probabilities" / "a.open_water.png") as image:
        assert image.mode == "I;16"
        assert np.asarray(image).tolist() == [[49151, 65535], [65535, 65535]]
    with Image.open(tmp_path / "probabilities" / "a.sky.png") as image:
        assert np.asarray(image).tolist() == [[16384, 0], [0, 0]]


def test_probabilities_lie_where_the_image_lies(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((5, 7), np.uint8))
    place = results.place_of(files_of(path), tmp_path, False)._replace(empty=EMPTY)
    results.save_probabilities(place, MAPS, ("x", "y"), "png16")
    written = tmp_path / "probabilities" / "a.y.tif"
    assert tags_of(written)[33550] == SCALE
    expected = np.round(EXPECTED[..., 1] * 65535)
    np.testing.assert_array_equal(tifffile.imread(written), expected)


@pytest.mark.parametrize("out", ["photos/out", "photos"])
def test_results_of_an_earlier_call_are_no_images(tmp_path, out):
    out = tmp_path / out
    out.mkdir(parents=True)
    is_result = lambda name: results.is_result(out, tmp_path / name)
    mask = (out / "masks" / "sub" / "a.png").relative_to(tmp_path)
    assert not is_result(mask)  # there is no report yet, so it is the user's
    (out / "report.json").touch()
    assert is_result(mask)
    assert not is_result("photos/a.png")
    assert not is_result("masks/a.png")


def test_inputs_where_results_are_written_are_refused(tmp_path):
    results.check_apart(tmp_path / "out", [files_of(tmp_path / "a.png")])
    lost = files_of(tmp_path / "a.png")._replace(mask=tmp_path / "masks" / "sub" / "a.png")
    with pytest.raises(UserError, match=r"its results might replace .*masks/sub/a.png"):
        results.check_apart(tmp_path, [lost])
