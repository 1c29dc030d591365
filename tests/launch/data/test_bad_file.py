import pickle

import numpy as np

from launch.data.bad_file import BadFile, pixel


def test_the_message_has_file_place_problem_and_fix():
    assert str(BadFile("f.png", "is odd", "Mend it.")) == "f.png: is odd. Mend it."
    bad = BadFile("f.png", "is odd", "Mend it.", "x 1, y 2")
    assert str(bad) == "f.png (x 1, y 2): is odd. Mend it."


def test_it_crosses_between_processes():
    bad = pickle.loads(pickle.dumps(BadFile("f.png", "is odd", "Mend it.", "x 1, y 2")))
    assert (bad.path, bad.place, bad.problem, bad.fix) == (
        "f.png",
        "x 1, y 2",
        "is odd",
        "Mend it.",
    )


def test_a_pixel_is_named_by_its_column_and_row():
    array = np.zeros((4, 7))
    array[3, 5] = 1
    assert pixel(array.argmax(), array) == "x 5, y 3"
    assert pixel(array.argmax(), np.zeros((4, 7, 3))) == "x 5, y 3"
