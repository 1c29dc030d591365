import numpy as np
import pytest

from jaxgen import flows


def test_the_defaults():
    found = flows.step_by_step()
    np.testing.assert_array_equal(found.grid, np.linspace(0, 1, 21, dtype=np.float32))
    assert (found.guidance, found.interval, found.autoguidance) == (1.0, (0.1, 1.0), False)
    assert (found.given_rows, found.start, found.sampler.noisy) == (None, 0.0, False)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"grid": [1.0, 0.5, 0.0]}, "grid must rise"),
        ({"grid": [1.0]}, "grid must rise"),
        ({"grid": [0.0, 0.9]}, "grid must rise"),
        ({"interval": (0.5, 0.1)}, r"^interval=\(0.5, 0.1\): needs 0 <= from <= to <= 1"),
        ({"interval": (0.5, 1.1)}, "needs 0 <= from <= to <= 1"),
        ({"guidance": -1.0}, "guidance=-1.0"),
        ({"start": 1.0}, "start=1.0"),
    ],
)
def test_what_cannot_work_is_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        flows.step_by_step(**kwargs)


def test_guidance_acts_at_a_step_or_is_refused():
    where = {"interval": (0.9, 0.94), "grid": flows.even_times(4)}
    assert flows.step_by_step(**where).guidance == 1.0
    with pytest.raises(ValueError, match=r"at times 0.9 to 0.94, where no step begins \(of 4\)"):
        flows.step_by_step(guidance=3.0, **where)
    # The last of four steps from 0.7 on begins at 0.925.
    assert flows.step_by_step(guidance=3.0, start=0.7, **where).guidance == 3.0
