import os
import signal
import subprocess
import sys
import time

import pytest

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
