from jaxgen.task import Task


def test_optional_functions_are_none():
    task = Task(*range(5))
    assert task[:5] == (0, 1, 2, 3, 4)
    given = {"given": "", "keeps_pixels": False, "accumulates": True}
    assert Task._field_defaults == dict.fromkeys(Task._fields[5:]) | given
