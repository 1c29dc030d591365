import numpy as np

from launch.reporting import comparisons, objects

VOID = objects.VOID


def test_objects_that_match_have_one_number():
    truth = np.array([[7, 7, 7, 0, 3, 3, 9, 9, VOID]])
    guess = np.array([[5, 5, 0, 0, 8, 0, 2, 2, 2]])  # IoU 2/3, 1/2, and 1 without void
    true, found = objects.matched(truth, guess)
    assert true.tolist() == [[2, 2, 2, 0, 1, 1, 3, 3, 0]]
    assert found[0, :4].tolist() == [2, 2, 0, 0]
    assert found[0, 6:].tolist() == [3, 3, 3]
    assert found[0, 4] > 3  # one half is not enough


def test_images_without_objects_have_no_numbers():
    empty, void = np.zeros((2, 3), np.int64), np.full((2, 3), VOID)
    for truth in (empty, void):
        assert not np.any(objects.matched(truth, empty))
    true, found = objects.matched(void, empty + 4)
    assert not true.any()
    assert found.all()


def test_objects_and_their_errors_are_drawn():
    truth, guess = np.zeros((2, 1, 6, 20, 1), np.float32)
    truth[0, :, :4, 0], truth[0, :, 8:12, 0], truth[0, :, 18:, 0] = 1, 2, VOID
    guess[0, :, :3, 0], guess[0, :, 14:17, 0] = 6, 4
    image = np.full((1, 6, 20, 3), 90, np.uint8)
    ((_, true, predicted, errors),), legends = objects.draw(image, truth, guess)
    scale = errors.shape[1] // 20
    at = lambda tile, x: tuple(tile[scale // 2, x * scale])
    assert at(true, 0) == at(predicted, 0) != at(true, 8)
    assert at(predicted, 8) == (90, 90, 90)
    assert [at(errors, x) for x in (3, 8, 14)] == [
        *(comparisons.MISSED, comparisons.MISSED, comparisons.FALSE)
    ]
    assert at(errors, 18) in (comparisons.VOID, comparisons.VOID_LINES)
    assert [legend.title for legend in legends] == ["objects", "errors"]
    assert legends[1].entries[-1][1] == "void: does not count"
