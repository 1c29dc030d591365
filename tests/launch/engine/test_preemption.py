import os
import signal

import pytest

from launch.distributed import Group
from launch.engine import preemption


class Two(Group):
    """A group of two processes, of which SIGTERM was told to one before turn 2."""

    processes = 2

    def preempted(self, turn):
        return turn >= 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_answered_at_the_next_turn(number):
    before = signal.getsignal(number)
    with preemption.interruptions(Group()) as interrupted:
        assert interrupted(1) is None
        os.kill(os.getpid(), number)
        assert interrupted(2) == number.name
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_leaves_at_once(monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(preemption.os, "_exit", codes.append)
    with preemption.interruptions(Group()):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # the platform repeats itself
        assert codes == []
        os.kill(os.getpid(), signal.SIGINT)
    assert codes == [130]
    assert "left at once" in capsys.readouterr().err


def test_several_processes_stop_at_the_turn_they_agree_on(monkeypatch):
    passed_on = []
    with preemption.interruptions(Two()) as interrupted:
        assert [interrupted(turn) for turn in (1, 2, 3)] == [None, "SIGTERM", "SIGTERM"]
        # Ctrl-C is passed on as SIGTERM, which JAX's coordination service spreads.
        monkeypatch.setattr(
            preemption.os, "kill", lambda process, number: passed_on.append((process, number))
        )
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)
    assert passed_on == [(os.getpid(), signal.SIGTERM)] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)  # SIGHUP, by nohup
    try:
        with preemption.signals_as_exceptions(), preemption.interruptions(Group()) as interrupted:
            signal.raise_signal(number)
            assert interrupted(1) is None
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_where_nothing_can_be_saved_a_signal_is_an_exception(number):
    before = signal.getsignal(number)

    def run():
        with preemption.signals_as_exceptions():
            try:
                signal.raise_signal(number)
            except Exception:
                pytest.fail("a handler of other errors caught it")

    with pytest.raises(preemption.Terminated, match=f"{number.name}: left, and saved nothing"):
        run()
    assert signal.getsignal(number) is before
