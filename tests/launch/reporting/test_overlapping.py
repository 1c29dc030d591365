import numpy as np

from launch.reporting import comparisons, overlapping

NAMES = ("disc", "box")
# Of two classes: none, the first, the second, both; and both void.
TRUTH = np.array([[0, 1, 0, 1, 2], [0, 0, 1, 1, 2]])[:, None]


def present(*rows):
    return np.array(rows, bool)[:, None]


def test_classes_at_the_same_place_take_turns():
    side = 2 * overlapping.STRIPES  # stripes are two pixels wide
    maps = np.zeros((3, side, side), bool)
    maps[0], maps[2, :, side // 2 :] = True, True
    found = overlapping.striped(maps)
    assert set(np.unique(found[:, : side // 2])) == {1}
    assert found[0, side // 2 :][:8].tolist() == [1, 1, 3, 3, 1, 1, 3, 3]
    assert not overlapping.striped(np.zeros((2, 3, 4), bool)).any()


def test_errors_are_those_of_any_class():
    guess = present([0, 0, 1, 0, 1], [1, 0, 0, 1, 0])
    truth, other = overlapping.compared(TRUTH, guess)
    image = np.full((1, 5, 3), 90, np.uint8)
    found = comparisons.errors(image, truth, other, True)[0]
    wanted = [comparisons.FALSE, comparisons.MISSED, comparisons.CONFUSED, comparisons.MISSED]
    assert [tuple(colour) for colour in found[:4]] == wanted
    assert tuple(found[4]) not in wanted  # void is no error


def draw(truth, guess, names=NAMES):
    image = np.full((1, *truth.shape[1:], 3), 90, np.uint8)
    return overlapping.draw(image, truth[None, ..., None], guess[None, ..., None], names)


def words(legend):
    return [name for _, name in legend.entries]


def test_legends_name_what_occurs():
    (tiles,), (classes, errors) = draw(TRUTH, TRUTH == 1)
    assert len(tiles) == 4
    none = f"{overlapping.NONE} (not coloured)"
    assert words(classes) == [none, *NAMES, "stripes: several classes at the same place"]
    assert words(errors)[-1] == "void: does not count"
    square, _ = classes.entries[2]  # the colour that `predict` gives the second class
    assert tuple(square[8, 8]) == tuple(comparisons.palette()[2])
    _, (classes, errors) = draw(TRUTH[:1, :, :4], TRUTH[:1, :, :4] == 1, NAMES[:1])
    assert words(classes) == [none, "disc"]
    assert words(errors) == ["missed: disc not found", "false: disc where there is none"]
