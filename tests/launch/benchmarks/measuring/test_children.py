"""Real processes, of Python alone."""

import os
import signal
import time

import pytest

from launch.benchmarks.measuring import children
from launch.benchmarks.measuring.children import Clock

# The suite's process has threads of JAX; that of the benchmark starts none before its children.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

WAITS = "import time; print('ready', flush=True); time.sleep(60)"
SAVES = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(75)))\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)"
)
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


def soon(seconds=60.0):
    return Clock(time.monotonic() + seconds)


def ready(tmp_path):
    return lambda: b"ready" in (tmp_path / "x.out").read_bytes()


def test_a_child_that_ends_by_itself(tmp_path):
    script = "import sys, os; print('{\"a\": [1, 2]}'); sys.stderr.write('one\\rtwo\\n\\n'); "
    script += "sys.exit(int(os.environ['CODE']))"
    ended = children.run(["-c", script], soon(), tmp_path / "logs" / "x.log", {"CODE": "3"})
    assert (ended.code, ended.stopped, ended.last) == (3, False, "two")
    assert ended.json() == {"a": [1, 2]}


def test_a_module_with_arguments(tmp_path):
    ended = children.run(["calendar", "2024", "2"], soon(), tmp_path / "x.log")
    assert ended.code == 0
    assert "February 2024" in ended.output
    assert ended.last.startswith("it wrote nothing to ")


def test_a_child_is_asked_to_stop_and_saves(tmp_path):
    clock = soon()
    ended = children.run(["-c", SAVES], clock, tmp_path / "x.log", stop_early=ready(tmp_path))
    assert (ended.code, ended.stopped) == (75, True)
    assert ended.output == "ready\nsaved\n"
    assert clock.left() > 30


def test_a_child_ends_at_the_deadline(tmp_path):
    ended = children.run(["-c", WAITS], soon(0.2), tmp_path / "x.log")
    assert (ended.code, ended.stopped) == (-signal.SIGTERM, True)


def test_a_child_that_does_not_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(children, "GRACE", 0.2)
    clock = soon()
    ended = children.run(["-c", STUBBORN], clock, tmp_path / "x.log", stop_early=ready(tmp_path))
    assert (ended.code, ended.stopped) == (-signal.SIGKILL, True)


def test_no_child_outlives_an_exception(tmp_path):
    script = f"import os; print(os.getpid(), flush=True); {WAITS}"

    def leave():
        if ready(tmp_path)():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        children.run(["-c", script], soon(), tmp_path / "x.log", stop_early=leave)
    number = int((tmp_path / "x.out").read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_the_earlier_of_two_deadlines_counts():
    clock = soon(100)
    assert clock.within(1000) == clock
    assert clock.within(10).left() == pytest.approx(10, abs=5)
