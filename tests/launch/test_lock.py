import os
import socket
import subprocess
import sys

import pytest

from launch import lock, train
from launch.errors import Mistake

HOLD = """
import sys
from pathlib import Path
from launch import lock
with lock.held(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / lock.NAME)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_workdir_in_use_is_refused_with_who_uses_it(small, tmp_path, holder):
    who = f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()}"
    with pytest.raises(Mistake) as caught:
        train.train(small, tmp_path)
    assert str(caught.value).startswith(who)
    assert [path.name for path in tmp_path.iterdir()] == [lock.NAME]


def test_a_dead_process_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    with lock.held(tmp_path / lock.NAME, pytest.fail):
        assert f"process {os.getpid()} on" in (tmp_path / lock.NAME).read_text()


def test_who_does_not_give_up_waits(tmp_path, holder):
    told = []

    def busy(who):
        told.append(who)
        holder.stdin.close()

    with lock.held(tmp_path / lock.NAME, busy):
        assert told == [f"process {holder.pid} on {socket.gethostname()}"]
    holder.stdin = None
