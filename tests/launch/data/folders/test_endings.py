import pytest

from launch.data.folders import endings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_mask", "a"),
        ("a-LabelIds", "a"),
        ("a.depth", "a"),
        ("a seg", "a"),
        ("amask", "amask"),
        ("mask", "mask"),
        ("a_mask_2", "a_mask_2"),
    ],
)
def test_endings(name, expected):
    assert endings.without(name.casefold()) == expected
