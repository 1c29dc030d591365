import os
import socket
import subprocess
import sys

import pytest

from launch import train
from launch.config.errors import UserError
from launch.storage import file_lock

HOLD = """
import sys
from pathlib import Path
from launch.storage import file_lock
with file_lock.held(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / file_lock.NAME)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_workdir_in_use_is_refused_with_its_holder(small, tmp_path, holder):
    message = f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()}"
    with pytest.raises(UserError) as caught:
        train.train(small, tmp_path)
    assert str(caught.value).startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == [file_lock.NAME]


def test_a_dead_process_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    with file_lock.held(tmp_path / file_lock.NAME, pytest.fail):
        named = f"process {os.getpid()} on {socket.gethostname()}\n"
        assert (tmp_path / file_lock.NAME).read_text() == named


def test_a_process_that_does_not_give_up_waits(tmp_path, holder):
    holders = []

    def busy(who):
        holders.append(who)
        holder.stdin.close()

    with file_lock.held(tmp_path / file_lock.NAME, busy):
        assert holders == [f"process {holder.pid} on {socket.gethostname()}"]
    holder.stdin = None
