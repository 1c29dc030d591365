"""What processes agree on, by threads around a store that stands in for JAX's service."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from launch import cli, distributed
from launch.config.errors import PeerLost, UserError
from launch.engine import sharding


class Store:
    """The part of the coordination service's client that a Group uses."""

    def __init__(self):
        self._values, self._changed = {}, threading.Condition()

    def key_value_set(self, key, value):
        with self._changed:
            if key in self._values:
                raise RuntimeError(f"ALREADY_EXISTS: {key}")
            self._values[key] = value
            self._changed.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._values, milliseconds / 1000):
                raise RuntimeError(f"DEADLINE_EXCEEDED: {key}")
            return self._values[key]

    def key_value_try_get(self, key):
        with self._changed:
            return self._values[key]


def groups(count, seconds=20.0):
    store = Store()
    made = [distributed.Group(store, number, count, seconds) for number in range(count)]
    for group in made:
        group.hosts = [f"host{number}" for number in range(count)]
    return made


def everyone(made, action):
    """What each group's thread returned, or the exception it raised."""

    def guarded(group):
        try:
            return action(group)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(made)) as pool:
        return list(pool.map(guarded, made))


def test_alone_nobody_is_asked():
    assert distributed.ALONE.all_gather("x", 3) == [3]
    assert distributed.ALONE.on_process_zero("x", lambda: 5) == 5
    assert distributed.ALONE.on_all("x", lambda: 7) == 7
    with distributed.ALONE.abort_together():
        pass


def test_values_are_gathered_in_order_every_time():
    made = groups(3)
    ask = lambda group: [group.all_gather("it", [group.process, turn]) for turn in range(4)]
    wanted = [[[p, turn] for p in range(3)] for turn in range(4)]
    assert everyone(made, ask) == [wanted] * 3


def test_who_does_not_come_is_named_by_process_and_host(capsys):
    made = groups(4, seconds=0.6)
    answers = everyone(made[:2], lambda group: group.all_gather("the data", None))
    for answer in answers:
        assert isinstance(answer, PeerLost)
        assert answer.exit_code == 76
    assert "the data: process 2 of 4 (host2), process 3 of 4 (host3)" in str(answers[0])
    assert "process 0 of 4 (host0) did not come" in str(answers[1])


def test_the_first_says_for_whom_it_waits(monkeypatch, capsys):
    monkeypatch.setattr(distributed, "PATIENCE", 0.3)
    made = groups(2)

    def ask(group):
        time.sleep(1.5 * group.process)
        return group.all_gather("the data", group.process)

    assert everyone(made, ask) == [[0, 1]] * 2
    assert "waiting for process 1 of 2 (host1): the data" in capsys.readouterr().err


def test_one_process_mistake_is_that_of_all():
    def action(group):
        def open_it():
            if group.process == 1:
                raise UserError("no such directory: /data")
            return group.process

        return group.on_all("the data", open_it)

    for answer in everyone(groups(3), action):
        assert isinstance(answer, UserError)
        assert str(answer) == "process 1 of 3 (host1): no such directory: /data"


def test_a_mistake_that_all_make_is_said_plainly():
    def action(group):
        raise UserError("an unknown key")

    answers = everyone(groups(2), lambda group: group.on_all("x", lambda: action(group)))
    assert [str(answer) for answer in answers] == ["an unknown key"] * 2


def test_what_the_first_does_is_told_to_all():
    done = []

    def action(group):
        return group.on_process_zero("it", lambda: done.append(group.process) or {"step": 5})

    assert everyone(groups(3), action) == [{"step": 5}] * 3
    assert done == [0]


def test_a_mistake_of_the_first_is_that_of_all():
    def refuse():
        raise UserError("in use by process 12 on host9")

    answers = everyone(groups(2), lambda group: group.on_process_zero("the workdir", refuse))
    assert [str(answer) for answer in answers] == ["in use by process 12 on host9"] * 2


def test_processes_with_another_config_are_refused():
    def action(group):
        group.check_same("the config", {"seed": 0, "steps": [10, 20][group.process]})

    for answer in everyone(groups(2), action):
        assert isinstance(answer, UserError)
        assert "process 1 of 2 (host1) has steps = 20, process 0 of 2 (host0) has 10" in str(answer)


def test_a_folder_that_is_not_shared_is_refused(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    check = lambda group: group.check_shared(folders[group.process])
    for answer in everyone(groups(2), check):
        assert isinstance(answer, UserError)
        assert "process 1 of 2 (host1) does not see what process 0 of 2 (host0)" in str(answer)
    assert everyone(groups(2), lambda group: group.check_shared(folders[0])) == [None, None]
    assert not list(folders[0].iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes=2"], "go together"),
        (["--coordinator=a:1", "--processes=2", "--process=2"], "count from 0"),
        (["--distributed"], "no cluster found here"),
    ],
)
def test_places_that_cannot_be_are_refused(arguments, message):
    parser = cli.parser("train", "")
    distributed.add_arguments(parser)
    with pytest.raises(UserError, match=message):
        distributed.start(parser.parse_args(arguments))


def test_without_flags_a_run_is_alone():
    parser = cli.parser("train", "")
    distributed.add_arguments(parser)
    assert distributed.start(parser.parse_args([])) is distributed.ALONE


def test_each_process_keeps_what_it_compiled(monkeypatch, tmp_path):
    state, asked, settings = sharding.service.global_state, [], []
    monkeypatch.setattr(state, "process_id", 3)
    monkeypatch.setattr(
        sharding.compiler, "_cache_write", lambda *entry: asked.append((entry, state.process_id))
    )
    monkeypatch.setattr(sharding.jax.config, "update", lambda *setting: settings.append(setting))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    sharding.keep_compiled(["a", "a"], tmp_path)
    assert settings == []
    sharding.compiler._cache_write("key", 1.0)
    assert asked == [(("key", 1.0), 0)]  # JAX writes at process 0 alone
    assert state.process_id == 3
    sharding.keep_compiled(["a", "b"], tmp_path)
    assert settings == [("jax_compilation_cache_dir", str(tmp_path / "compiled"))]
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    sharding.keep_compiled(["a", "b"], tmp_path)
    assert len(settings) == 1
