import pytest

from launch.config import by_name
from launch.config.errors import UserError

HERE = "tests.launch.config.test_by_name"


def pair(left, right=2, **rest):
    return left, right, rest


def picky(size=1):
    if size < 0:
        raise ValueError("size must not be negative")
    return size


def test_specs_are_called_with_their_keys_and_the_callers():
    spec = {"name": f"{HERE}:pair", "left": {"name": f"{HERE}:picky", "size": 5}, "more": [1, [2]]}
    assert by_name.instantiate(spec, "here", right=7) == (5, 7, {"more": (1, (2,))})


def test_functions_are_bound_without_being_called():
    assert by_name.partial({"name": f"{HERE}:pair", "right": 3}, "here")(1) == (1, 3, {})


def test_what_an_object_accepts_and_needs():
    takes = lambda name, argument: by_name.accepts(f"{HERE}:{name}", argument, "here")
    assert takes("picky", "size")
    assert not takes("picky", "more")
    assert takes("pair", "left")
    assert takes("pair", "more")  # as it takes **rest
    assert by_name.required(f"{HERE}:pair", "here") == {"left"}
    assert by_name.required(f"{HERE}:picky", "here") == set()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, 'here: expected a mapping with a "name"'),
        ({"name": "nocolon"}, "not a name of the form"),
        ({"name": "no.such:thing"}, "cannot import 'no.such'"),
        ({"name": f"{HERE}:pare"}, "did you mean 'pair'"),
        (
            {"name": f"{HERE}:picky", "sise": 1},
            r"here.sise: .*no argument 'sise'; did you mean 'size'",
        ),
        ({"name": f"{HERE}:picky", "size": -1}, "picky: size must not be negative"),
        ({"name": f"{HERE}:pair"}, "needs an argument 'left'"),
    ],
)
def test_mistakes_name_the_key(spec, message):
    with pytest.raises(UserError, match=message):
        by_name.instantiate(spec, "here")
