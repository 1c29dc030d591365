import numpy as np
import pytest
import tifffile

from launch.inference import geotiff

SCALE, TIE = (10.0, 10.0, 0.0), (0.0, 0.0, 0.0, 500000.0, 4100000.0, 0.0)
KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
TAGS = {
    33550: ("d", SCALE),
    33922: ("d", TIE),
    34264: ("d", tuple(map(float, range(16)))),
    34735: ("H", KEYS),
    34736: ("d", (6378137.0, 298.25)),
    34737: ("s", "WGS 84 / UTM zone 32N|"),
    42112: (
        "s",
        '<GDALMetadata><Item name="AREA">field</Item>'
        '<Item name="STATISTICS_MAXIMUM" sample="0">77</Item>'
        '<Item name="SCALE" sample="1" role="scale">0.1</Item></GDALMetadata>',
    ),
    42113: ("s", "0"),
}


def write(path, values, codes=tuple(TAGS), **options):
    extra = [
        (code, TAGS[code][0], 0 if TAGS[code][0] == "s" else len(TAGS[code][1])) for code in codes
    ]
    extra = [(*tag, TAGS[tag[0]][1], True) for tag in extra]
    tifffile.imwrite(path, values, extratags=extra, metadata=None, **options)
    return path


def tags_of(path):
    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags}


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_the_tags_come_back_from_what_is_written(tmp_path, byteorder, bigtiff):
    values = np.arange(5 * 7 * 4, dtype=np.uint16).reshape(5, 7, 4)
    options = {"byteorder": byteorder, "bigtiff": bigtiff, "photometric": "minisblack"}
    path = write(tmp_path / "a.tif", values, planarconfig="contig", **options)
    header = geotiff.read_header(path)
    assert (header.samples, header.transparent, header.turned) == (4, False, False)
    assert header.nodata == 0.0
    labels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    colours = np.arange(768).reshape(256, 3).astype(np.uint8)
    geotiff.save(tmp_path / "out" / "m.tif", labels, header, 255, colours)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "m.tif"), labels)
    written, before = tags_of(tmp_path / "out" / "m.tif"), tags_of(path)
    for code in geotiff.PLACE:
        assert written[code] == before[code], code
    assert written[34735] == KEYS
    assert written[42113] == "255"
    assert (written[259], written[262]) == (8, 3)  # deflate, a palette
    np.testing.assert_array_equal(written[320], colours.T.astype(int) * 257)
    # What GDAL says of single bands is not true of the mask.
    assert written[42112] == '<GDALMetadata><Item name="AREA">field</Item></GDALMetadata>'


def test_grey_maps_without_nodata(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((5, 7), np.float32), (33550, 33922))
    header = geotiff.read_header(path)
    assert header.nodata is None
    assert header.is_map
    values = np.full((5, 7), 65535, np.uint16)
    geotiff.save(tmp_path / "m.tif", values, header)
    written = tags_of(tmp_path / "m.tif")
    assert (written[33550], written[33922], written[262]) == (SCALE, TIE, 1)
    assert not {42112, 42113} & written.keys()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), values)


def test_files_that_have_no_place(tmp_path):
    plain = write(tmp_path / "a.tif", np.zeros((5, 7), np.uint8), ())
    assert not geotiff.read_header(plain).is_map
    described = write(tmp_path / "b.tif", np.zeros((5, 7), np.uint8), (42112,))
    assert geotiff.read_header(described).tags == ()
    (tmp_path / "c.tif").write_bytes(b"II*\0")
    assert geotiff.read_header(tmp_path / "c.tif") is None
    assert geotiff.read_header(tmp_path / "none.tif") is None
    assert geotiff.read_header(tmp_path / "a.png") is None


def test_transparency_and_orientation(tmp_path):
    values = np.zeros((5, 7, 4), np.uint8)
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    header = geotiff.read_header(write(tmp_path / "a.tif", values, (), **options))
    assert (header.samples, header.transparent, header.turned) == (4, True, False)
    options["extrasamples"] = ["unspecified"]
    turned = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "b.tif", values, extratags=turned, metadata=None, **options)
    header = geotiff.read_header(tmp_path / "b.tif")
    assert (header.samples, header.transparent, header.turned) == (4, False, True)


def test_the_tags_of_a_thumbnail_are_not_those_of_the_image(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((2, 2), np.uint8), subfiletype=1, metadata=None)
        writer.write(np.zeros((5, 7, 4), np.uint8), photometric="rgb", metadata=None)
    assert geotiff.read_header(tmp_path / "a.tif").samples == 4


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [(np.uint8, 0), (np.int16, -9999), (np.float32, -9999.9), (np.float32, np.nan)],
)
def test_pixels_are_empty_where_all_channels_say_so(dtype, nodata):
    values = np.ones((3, 4, 2), dtype)
    values[0, 1], values[2, 2, 0] = nodata, nodata
    found = geotiff.empty_pixels(values, float(nodata))
    assert np.argwhere(found).tolist() == [[0, 1]]


def test_metadata_that_is_not_xml_is_left_out():
    assert geotiff._of_the_whole("<GDALMetadata>") == ""
    assert geotiff._of_the_whole(None) == ""
    assert geotiff._of_the_whole('<GDALMetadata><Item sample="0">1</Item></GDALMetadata>') == ""
