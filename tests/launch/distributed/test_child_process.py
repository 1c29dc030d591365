import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from launch.config.errors import UserError
from launch.distributed import child_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")

# A parent that starts a child, prints the child's id, and waits.
PARENT = """
import subprocess, sys, time
from launch.distributed import child_process
child = subprocess.Popen(["sleep", "60"], preexec_fn=child_process.{function})
print(child.pid, flush=True)
time.sleep(60)
"""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("function", ["die_with_parent", "leave_signals_to_parent"])
def test_a_child_ends_with_its_parent(function):
    command = [sys.executable, "-c", PARENT.format(function=function)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert is_running(child)
        if function == "leave_signals_to_parent":
            os.kill(child, signal.SIGINT)
            time.sleep(0.2)
            assert is_running(child)
        parent.kill()
    deadline = time.monotonic() + 5
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def place():
    """Where this is called: the process and what JAX would find."""
    names = "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES"
    logging.getLogger("segen").info("from the child")
    return os.getpid(), [os.environ[name] for name in names]


def refuse(reason):
    raise UserError(reason)


def test_a_function_runs_on_one_cpu_device_of_a_child(monkeypatch, capfd):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    process, found = child_process.on_one_cpu_device(place)
    assert process != os.getpid()
    assert found == ["cpu", "1"]
    assert os.environ["JAX_PLATFORMS"] == "tpu"
    assert "JAX_NUM_CPU_DEVICES" not in os.environ
    assert capfd.readouterr().err == "from the child\n"


def test_an_error_of_the_child_is_raised_here():
    with pytest.raises(UserError, match="the accuracy is too low"):
        child_process.on_one_cpu_device(partial(refuse, "the accuracy is too low"))


def test_a_signal_does_not_wait_for_the_child():
    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, lambda *_: refuse("SIGALRM"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 2.0)
        with pytest.raises(UserError, match="SIGALRM"):
            child_process.on_one_cpu_device(partial(time.sleep, 60))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 30
