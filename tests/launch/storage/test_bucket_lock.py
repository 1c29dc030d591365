"""A lock that two machines can see, though neither can see the other's processes."""

import json
import os
import socket
import subprocess
import threading
import time

import pytest

from launch import storage
from launch.config.errors import UserError
from launch.storage import bucket_lock

ELSEWHERE = {"who": "process 7 on afar", "host": "afar", "process": 7, "token": "t", "renewed": 1}


class Busy(Exception):
    pass


def refuse(who):
    raise Busy(who)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bucket_lock, "RENEWAL", 0.05)
    monkeypatch.setattr(bucket_lock, "PATIENCE", 0.5)


def put(path, **content):
    path.write_text(json.dumps(content))


def test_one_holds_it_and_leaves_nothing_behind(place, monkeypatch):
    with bucket_lock.held(place / ".lock", refuse) as still:
        still()
        who = f"process {os.getpid()} on {socket.gethostname()}"
        with monkeypatch.context() as patch:
            # What is held under one's own number is an earlier life of a container.
            patch.setattr(bucket_lock.os, "getpid", lambda: 1)
            with pytest.raises(Busy, match=who), bucket_lock.held(place / ".lock", refuse):
                pass
    assert storage.contents(place) == {}


def test_a_silent_holder_is_gone_after_a_while(place):
    put(place / ".lock", **ELSEWHERE)
    began = time.monotonic()
    with bucket_lock.held(place / ".lock", refuse) as still:
        assert time.monotonic() - began >= 0.5
        still()


def test_a_holder_elsewhere_that_renews_is_respected(place):
    put(place / ".lock", **ELSEWHERE)
    timer = threading.Timer(0.2, put, [place / ".lock"], ELSEWHERE | {"renewed": 2})
    timer.start()
    with pytest.raises(Busy, match="process 7 on afar"), bucket_lock.held(place / ".lock", refuse):
        pass
    timer.join()
    assert json.loads((place / ".lock").read_text())["token"] == "t"


def test_a_dead_process_of_this_host_is_not_waited_for(place, monkeypatch):
    monkeypatch.setattr(bucket_lock, "PATIENCE", 60.0)
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = {"host": socket.gethostname(), "process": ended.pid}
    put(place / ".lock", **(ELSEWHERE | here))
    began = time.monotonic()
    with bucket_lock.held(place / ".lock", refuse):
        assert time.monotonic() - began < 5


def test_who_lost_it_is_told_and_leaves_it_alone(place):
    with bucket_lock.held(place / ".lock", refuse) as still:
        put(place / ".lock", **ELSEWHERE)
        with pytest.raises(UserError, match="was taken over by process 7 on afar"):
            still()
        time.sleep(0.2)  # several renewals, which must not take it back
    assert json.loads((place / ".lock").read_text()) == ELSEWHERE


def test_a_lock_that_changes_hands_meanwhile_is_not_removed(place, monkeypatch):
    put(place / ".lock", **ELSEWHERE)
    read, quicker = bucket_lock._read, ELSEWHERE | {"token": "quicker"}

    def overtaken(path):
        found = read(path)
        put(place / ".lock", **quicker)  # between our look and our hand
        return found

    monkeypatch.setattr(bucket_lock, "_read", overtaken)
    with pytest.raises(FileExistsError):
        bucket_lock._remove(place / ".lock", ELSEWHERE)
    assert json.loads((place / ".lock").read_text()) == quicker


def test_of_many_that_come_at_once_one_gets_it(place):
    got, lost, gate = [], [], threading.Barrier(6)

    def come(number):
        mine = {"who": str(number), "host": "h", "process": 0, "token": str(number)}
        gate.wait()
        try:
            bucket_lock._write(place / ".lock", mine, "create")
            got.append(number)
        except FileExistsError:
            lost.append(number)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(lost)) == (1, 5)
