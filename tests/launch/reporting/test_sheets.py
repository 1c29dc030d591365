import numpy as np
import pytest

from launch.reporting import sheets

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def test_small_images_are_enlarged_by_whole_numbers():
    image = noise(64, 50, 3)
    np.testing.assert_array_equal(sheets.scaled(image), image.repeat(5, 0).repeat(5, 1))
    exact = noise(*sheets.TILE, 3)
    assert sheets.scaled(exact) is exact or np.array_equal(sheets.scaled(exact), exact)


def test_large_images_are_averaged_until_they_fit():
    image = noise(20, 40, 3)
    found = sheets.scaled(image, (10, 20)).astype(float)
    wanted = image.reshape(10, 2, 20, 2, 3).mean((1, 3))
    np.testing.assert_allclose(found, wanted, atol=1.01)  # rows and columns are each rounded
    assert sheets.scaled(image, (15, 10)).shape == (5, 10, 3)
    assert sheets.scaled(noise(3, 900, 3)).shape == (1, 384, 3)


def test_masks_are_scaled_by_the_majority():
    mask = np.zeros((4, 4), bool)
    mask[:2, :2], mask[2, 2] = True, True
    assert sheets.scaled(mask, (2, 2)).tolist() == [[True, False], [False, False]]
    assert sheets.scaled(mask, (8, 8)).tolist() == mask.repeat(2, 0).repeat(2, 1).tolist()


def test_the_content_ends_where_padding_begins():
    content = np.zeros((7, 9), bool)
    content[2, 5] = content[4, 1] = True
    assert sheets.content_size(content) == (5, 6)
    assert sheets.content_size(np.zeros((7, 9), bool)) == (7, 9)
    assert sheets.content_size(np.ones((7, 9), bool)) == (7, 9)


def test_grey_and_float_images_become_rgb():
    image = np.array([[[0.0], [0.5], [2.0], [np.nan]]], np.float32)
    assert sheets.as_rgb(image)[..., 2].tolist() == [[0, 128, 255, 0]]
    colour = noise(2, 3, 3)
    np.testing.assert_array_equal(sheets.as_rgb(colour), colour)


def find(sheet, tile):
    """The only place of a tile on a sheet: that of the first pixels of its second row."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (1, 8, 3))[:, :, 0, 0]
    ((y, x),) = np.argwhere((windows == tile[1, :8]).all((2, 3)))
    np.testing.assert_array_equal(sheet[y - 1 :, x:][: tile.shape[0], : tile.shape[1]], tile)
    return int(y) - 1, int(x)


def test_tiles_stand_below_their_titles_in_their_rows():
    tiles = [[noise(30, 40, 3), noise(30, 40, 3)], [noise(20, 40, 3), noise(20, 40, 3)]]
    rows = [sheets.Row(("worst", f"image {k}"), tuple(pair)) for k, pair in enumerate(tiles)]
    sheet = sheets.draw("step 1", ("image", "a title that is wide"), rows)
    places = [[find(sheet, tile) for tile in pair] for pair in tiles]
    (first, second), (third, fourth) = places
    assert first[0] == second[0] < third[0] == fourth[0]
    assert first[1] == third[1] < second[1] == fourth[1]
    assert third[0] >= first[0] + 30 + sheets.SIZE  # room for the heading of the row
    assert sheet.shape[1] == sheets.NARROWEST
    written = (sheet < 128).any(-1)
    assert written[: first[0]].any()
    assert written[first[0] + 30 : third[0]].any()


def test_a_legend_goes_on_in_the_next_line():
    row = sheets.Row(("", "one"), (noise(30, 600, 3),))
    entries = tuple((noise(16, 16, 3), f"class number {number}") for number in range(25))
    short = sheets.draw("", ("image",), [row], [sheets.Legend("classes", entries[:2])])
    long = sheets.draw("", ("image",), [row], [sheets.Legend("classes", entries)])
    assert long.shape[0] > short.shape[0]
    assert long.shape[1] == short.shape[1]
    places = [find(long, square) for square, _ in entries]
    assert len({y for y, _ in places}) > 2
    assert min(x for _, x in places) == places[0][1]


@pytest.mark.parametrize("text", ["a" * 500, "images/" + "very_long_name" * 30 + ".tif"])
def test_long_words_lose_their_middle(text):
    row = sheets.Row(("worst", text), (noise(30, 40, 3),))
    sheet = sheets.draw(
        text, ("image",), [row], [sheets.Legend("classes", ((noise(16, 16, 3), text),))]
    )
    assert sheet.shape[1] == sheets.NARROWEST
    assert (sheet[:, -sheets.MARGIN + 1 :] == 255).all()
