"""A group of threads, around a store that stands in for JAX's coordination service."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

from launch import cli, local
from launch.config.errors import PeerLost, UserError
from launch.distributed import processes


class Store:
    """The part of the coordination service's client that a ProcessGroup uses."""

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
    made = [processes.ProcessGroup(store, number, count, seconds) for number in range(count)]
    for group in made:
        group.hosts = [f"host{number}" for number in range(count)]
    return made


def everyone(made, action):
    """Calls `action(group)` in a thread per group; returns the results or exceptions."""

    def guarded(group):
        try:
            return action(group)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(made)) as pool:
        return list(pool.map(guarded, made))


def test_values_are_gathered_in_order_every_time():
    made = groups(3)
    ask = lambda group: [group.all_gather("it", [group.process, turn]) for turn in range(4)]
    expected = [[[p, turn] for p in range(3)] for turn in range(4)]
    assert everyone(made, ask) == [expected] * 3


def test_missing_processes_are_named_with_their_hosts(monkeypatch, capsys):
    monkeypatch.setattr(processes, "GRACE", 0.5)
    made = groups(4, seconds=0.3)
    answers = everyone(made[:2], lambda group: group.all_gather("the data", None))
    for answer in answers:
        assert isinstance(answer, PeerLost)
        assert answer.exit_code == 76
    assert "the data: process 2 of 4 (host2), process 3 of 4 (host3)" in str(answers[0])
    assert "process 0 of 4 (host0) did not come" in str(answers[1])
    assert capsys.readouterr().err == ""  # who is waited for is told after 20 s


def test_process_zero_names_the_processes_it_waits_for(monkeypatch, capsys):
    monkeypatch.setattr(processes, "NOTICE_AFTER", 0.3)
    made = groups(2)

    def ask(group):
        time.sleep(0.9 * group.process)
        return group.all_gather("the data", group.process)

    assert everyone(made, ask) == [[0, 1]] * 2
    assert "waiting for process 1 of 2 (host1): the data" in capsys.readouterr().err


def test_an_error_of_one_process_is_raised_on_all():
    def action(group):
        def open_it():
            if group.process == 1:
                raise UserError("no such directory: /data")
            return group.process

        return group.on_all("the data", open_it)

    for answer in everyone(groups(3), action):
        assert isinstance(answer, UserError)
        assert str(answer) == "process 1 of 3 (host1): no such directory: /data"


def test_an_error_that_all_have_is_told_once():
    def action(group):
        raise UserError("an unknown key")

    answers = everyone(groups(2), lambda group: group.on_all("x", lambda: action(group)))
    assert [str(answer) for answer in answers] == ["an unknown key"] * 2


def test_a_result_of_process_zero_is_returned_on_all():
    done = []

    def action(group):
        return group.on_process_zero("it", lambda: done.append(group.process) or {"step": 5})

    assert everyone(groups(3), action) == [{"step": 5}] * 3
    assert done == [0]


def test_an_error_of_process_zero_is_raised_on_all():
    def refuse():
        raise UserError("in use by process 12 on host9")

    answers = everyone(groups(2), lambda group: group.on_process_zero("the workdir", refuse))
    assert [str(answer) for answer in answers] == ["in use by process 12 on host9"] * 2


def test_process_zero_may_take_longer_than_others_wait():
    slow = lambda: time.sleep(0.6) or 5
    ask = lambda group: group.on_process_zero("the classifier", slow, 20.0)
    assert everyone(groups(2, seconds=0.1), ask) == [5, 5]


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
        assert "Put --workdir on storage" in str(answer)
    (answer, _) = everyone(
        groups(2), lambda group: group.check_shared(folders[group.process], "--out")
    )
    assert "Put --out on storage" in str(answer)
    assert everyone(groups(2), lambda group: group.check_shared(folders[0])) == [None, None]
    assert not list(folders[0].iterdir())


def test_equal_facts_pass_and_a_missing_fact_is_a_difference():
    assert everyone(groups(2), lambda group: group.check_same("x", {"a": (1, 2)})) == [None] * 2
    facts = [{"a": 1}, {"a": 1, "b": 2}]
    for answer in everyone(groups(2), lambda group: group.check_same("x", facts[group.process])):
        assert "process 1 of 2 (host1) has b = 2, process 0 of 2 (host0) has None" in str(answer)


class Exited(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def exits(monkeypatch):
    def leave(code):
        raise Exited(code)

    monkeypatch.setattr(processes.os, "_exit", leave)
    monkeypatch.setattr(processes, "GRACE", 0.3)


def abort(group):
    """Process 1 leaves the block by an error, while the others watch."""
    if group.process != 1:
        return group._watch()
    with group.abort_together(cli.ending):
        raise UserError("no such directory: /data")


def test_an_error_ends_all_processes_with_its_code(exits, capsys):
    ended = everyone(groups(3), abort)
    assert [type(error) for error in ended] == [Exited] * 3
    assert [error.args for error in ended] == [(2,)] * 3
    lines = capsys.readouterr().err.splitlines()
    # Process 1 prints the message, process 0 prints it once more, process 2 does not.
    assert lines == ["process 1 of 3 (host1): no such directory: /data"] * 2


def test_an_error_that_all_processes_have_is_one_message(exits, capsys):
    def fail(group):
        with group.abort_together(cli.ending):
            raise UserError("--samples: no sample()")

    ended = everyone(groups(3), fail)
    assert [error.args for error in ended] == [(2,)] * 3
    assert capsys.readouterr().err.splitlines() == ["--samples: no sample()"]


def test_results_that_wait_in_a_buffer_are_written_before_the_end(exits, monkeypatch):
    flushed = []
    monkeypatch.setattr(processes.sys.stdout, "flush", lambda: flushed.append(1))
    (group,) = groups(1)
    with pytest.raises(Exited):
        group._exit(1)
    assert flushed == [1]


@pytest.mark.parametrize(
    "error", [ConnectionError("Connection reset"), jax.errors.JaxRuntimeError("out of memory")]
)
def test_an_error_of_ours_shows_its_stack_trace(error, exits, capsys):
    (group,) = groups(1)

    def fail():
        with group.abort_together(cli.ending):
            raise error

    (ended,) = everyone([group], lambda group: fail())
    assert ended.args == (1,)
    assert "Traceback" in capsys.readouterr().err


def test_process_zero_exits_after_all_others(exits):
    zero, one = groups(2)
    timer = threading.Timer(0.2, one._client.key_value_set, ["segen/left/1", ""])
    timer.start()
    with pytest.raises(Exited):
        zero._exit(3)
    assert zero._client.key_value_try_get("segen/left/1") == ""


def test_a_broken_connection_counts_as_a_lost_process(exits, capsys):
    def train(group):
        with group.abort_together(cli.ending):
            raise jax.errors.JaxRuntimeError("Gloo all-reduce failed: Connection reset by peer")

    (ended,) = everyone(groups(1), train)
    assert ended.args == (PeerLost.exit_code,)
    assert "another process is gone: Gloo all-reduce failed" in capsys.readouterr().err


def test_a_block_that_succeeds_ends_all_in_peace(monkeypatch):
    ended = []
    monkeypatch.setattr(processes.jax.distributed, "shutdown", lambda: ended.append(1))

    def train(group):
        with group.abort_together(cli.ending):
            return group.process

    assert everyone(groups(2), train) == [0, 1]
    assert ended == [1, 1]


def test_a_service_that_is_gone_is_a_lost_process(monkeypatch):
    _, group = groups(2)

    def gone(key, milliseconds):
        raise RuntimeError("UNAVAILABLE: failed to connect")

    monkeypatch.setattr(group._client, "blocking_key_value_get", gone)
    with pytest.raises(PeerLost, match=r"service of process 0 of 2 \(host0\) is gone: UNAVAIL"):
        group.all_gather("the data", 1)


@pytest.mark.parametrize(
    ("hosts", "given", "settings"),
    [
        (["a", "a"], "", []),
        (["a", "b"], "", [("jax_compilation_cache_dir", "/shared/run/compiled")]),
        (["a", "b"], "/elsewhere", []),
    ],
)
def test_processes_on_several_hosts_share_a_compilation_cache(monkeypatch, hosts, given, settings):
    updates = []
    monkeypatch.setattr(processes.jax.config, "update", lambda *setting: updates.append(setting))
    monkeypatch.setattr(processes.jax, "default_backend", lambda: "tpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", given)
    group, _ = groups(2)
    group.hosts = hosts
    group.share_compilation_cache(Path("/shared/run"))
    assert updates == settings
    group.share_compilation_cache("gs://bucket/run")
    assert updates == settings
    updates.clear()
    monkeypatch.setattr(processes.jax, "default_backend", lambda: "cpu")
    group.share_compilation_cache("gs://bucket/run")
    assert updates == [("jax_enable_compilation_cache", False)]


def test_without_a_cluster_the_address_is_asked_for():
    with pytest.raises(UserError, match="no cluster found here"):
        processes.join((None, None, None), 1.0)


def test_processes_that_jax_cannot_connect_are_reported(monkeypatch):
    def fail(**arguments):
        assert (arguments["num_processes"], arguments["process_id"]) == (1, 0)
        assert arguments["initialization_timeout"] == 5
        raise RuntimeError("no connection\nto the service")

    monkeypatch.setattr(processes.jax.distributed, "initialize", fail)
    address = f"127.0.0.1:{local._free_port()}"
    with pytest.raises(PeerLost, match="were not connected: no connection to the service"):
        processes.join((address, 1, 0), 5.0)


def test_texts_are_waited_for_until_the_deadline(monkeypatch):
    group, _ = groups(2)
    asked = []
    monkeypatch.setattr(
        group._client, "blocking_key_value_get", lambda key, left: asked.append((key, left)) or "1"
    )
    monkeypatch.setattr(processes.time, "monotonic", lambda: 10.0)
    assert group._get("a", 12.5) == group._get("b", 9.0) == "1"
    assert asked == [("a", 2500), ("b", 1)]  # milliseconds, at least one


def test_who_waits_long_looks_up_for_signals(monkeypatch):
    group, _ = groups(2)
    asked, now = [], [10.0]

    def wait(key, milliseconds):
        asked.append(milliseconds)
        now[0] += milliseconds / 1000
        raise RuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setattr(group._client, "blocking_key_value_get", wait)
    monkeypatch.setattr(processes.time, "monotonic", lambda: now[0])
    assert group._get("a", 22.0) is None
    assert asked == [5000, 5000, 2000]


def test_the_times_are_those_of_the_docs():
    """docs/reliability.md: JAX notices after 30 s that a process is gone."""
    assert (processes.HEARTBEAT, processes.NOTICE_AFTER, processes.GRACE) == (30, 20.0, 3.0)
