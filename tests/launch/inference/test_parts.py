from types import SimpleNamespace

import pytest

from launch.config.errors import UserError
from launch.inference import parts

PART = parts.Part("codec", "config.key", "runs/a:7", "name a run.", "is none.", " Or none.")


@pytest.fixture
def opening(monkeypatch):
    """The calls that open a run; its task makes a list of the state, which tells the step."""
    calls = []

    def restore(workdir, overrides, step, split, local):
        calls.append((workdir, overrides, step, split, local))
        config = SimpleNamespace(task=SimpleNamespace(name="some:task"))
        task = SimpleNamespace(codec=lambda state: [state], teacher=None)
        return SimpleNamespace(
            config=config, experiment=SimpleNamespace(task=task), state=f"state {step}"
        )

    monkeypatch.setattr(parts.trained_runs, "restore", restore)
    yield calls
    parts.opened.cache_clear()


def test_a_part_is_made_of_the_state_of_a_step_once(opening, tmp_path):
    first, last = (parts.part_of(PART, f"{tmp_path}:{step}") for step in (3, 4))
    assert (first, last) == (["state 3"], ["state 4"])
    assert parts.part_of(PART, f"{tmp_path}:3") is first
    # On the devices of this process, and without the run's data.
    assert opening == [(tmp_path, [], step, None, True) for step in (3, 4)]


def test_a_task_without_the_part_is_refused(opening, tmp_path):
    with pytest.raises(UserError, match=rf"^config.key={tmp_path}:3: some:task is none.$"):
        parts.part_of(PART._replace(field="teacher"), f"{tmp_path}:3")


def test_messages_name_the_key_and_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"^config.key: name a run.$"):
        parts.part_of(PART, "")
    with pytest.raises(UserError, match=rf"^config.key={tmp_path}: give the step too, as runs/a:7"):
        parts.part_of(PART, str(tmp_path))
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"give the step too, as {tmp_path}:20$"):
        parts.part_of(PART, f"{tmp_path}:best")
    gone = tmp_path / "gone"
    with pytest.raises(UserError, match=rf"^config.key={gone}:3: no such directory.* Or none.$"):
        parts.part_of(PART, f"{gone}:3")
