from tests.tools import mutants, reading

SOURCE = b'''"""Adds 1 + 1."""
from typing import Literal


def area(width: Literal[1, 2], height=2.5, *, flat=False) -> Literal[3]:
    """Not 3 - 2."""
    if width <= 0 and not flat:  # a < b
        return -(width) * (  # + 1
            height
        )
    return width**2 if flat or width != height else f"\xc3\xa9 {'none'}"
'''


def test_every_place_but_texts_and_annotations_can_be_changed():
    places = list(mutants.sites("m.py", SOURCE))
    texts = [SOURCE[place.start : place.end].decode() for place in places]
    assert sorted(texts) == sorted(
        ["2.5", "False", "<=", "0", "and", "not", "-", "*", "**", "2", "or", "!="]
    )
    kinds = {text: place.kind for text, place in zip(texts, places, strict=True)}
    assert kinds["2.5"] == kinds["False"] == "default"
    assert (kinds["0"], kinds["<="], kinds["or"]) == ("constant", "comparison", "boolean")
    assert {place.line for place in places} == {5, 7, 8, 11}
    for place in places:
        for choice in place.choices:
            compile(SOURCE[: place.start] + choice + SOURCE[place.end :], "m.py", "exec")


def test_a_constant_becomes_another_one():
    assert mutants._others(3) == ["4", "6", "0"]
    assert mutants._others(0) == ["1"]
    assert mutants._others(1e12) == ["2000000000000.0", "0.0"]
    assert mutants._others(True) == ["False"]


def test_the_test_file_of_a_module():
    assert mutants.test_file("launch/data/order.py") == "tests/launch/data/test_order.py"


def test_lines_and_files_are_counted():
    names = ["launch/cpu/__init__.py", "launch/cli.py"]
    assert [reading.has_code(name) for name in names] == [False, True]
    counts = reading.count(names)
    assert counts["files"] == 1
    assert counts["lines"] == sum((reading.ROOT / name).read_text().count("\n") for name in names)
    files = ["launch/cli.py", f"{reading.ROOT}/jaxgen/vae.py", "/usr/lib/os.py", "", ".venv/a.py"]
    assert reading.project_files(files) == ["jaxgen/vae.py", "launch/cli.py"]
