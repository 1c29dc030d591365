"""The lock of a bucket, which processes on several machines share."""

import json
import os
import socket
import subprocess
import threading
import time

import pytest

from launch.config.errors import UserError
from launch.storage import bucket, bucket_lock

ELSEWHERE = {"who": "process 7 on afar", "host": "afar", "process": 7, "token": "t", "renewed": 1}


DOCUMENTED = bucket_lock.RENEWAL, bucket_lock.EXPIRY


class Busy(Exception):
    pass


def refuse(who):
    raise Busy(who)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bucket_lock, "RENEWAL", 0.05)
    monkeypatch.setattr(bucket_lock, "EXPIRY", 0.5)


def put(path, **content):
    path.write_text(json.dumps(content))


def test_one_process_holds_it_and_leaves_nothing_behind(place, monkeypatch):
    with bucket_lock.held(place / ".lock", refuse) as check_held:
        check_held()
        who = f"process {os.getpid()} on {socket.gethostname()}"
        with monkeypatch.context() as patch:
            # A lock of this process's own id counts as left by an earlier container.
            patch.setattr(bucket_lock.os, "getpid", lambda: 1)
            with pytest.raises(Busy, match=who), bucket_lock.held(place / ".lock", refuse):
                pass
    assert bucket.contents(place) == {}


def test_a_lock_expires_without_renewals(place):
    put(place / ".lock", **ELSEWHERE)
    began = time.monotonic()
    with bucket_lock.held(place / ".lock", refuse) as check_held:
        assert time.monotonic() - began >= 0.5
        check_held()


def test_a_lock_that_is_renewed_does_not_expire(place):
    put(place / ".lock", **ELSEWHERE)
    timer = threading.Timer(0.2, put, [place / ".lock"], ELSEWHERE | {"renewed": 2})
    timer.start()
    with pytest.raises(Busy, match="process 7 on afar"), bucket_lock.held(place / ".lock", refuse):
        pass
    timer.join()
    assert json.loads((place / ".lock").read_text())["token"] == "t"


def test_the_lock_of_a_dead_process_of_this_host_is_free_at_once(place, monkeypatch):
    monkeypatch.setattr(bucket_lock, "EXPIRY", 60.0)
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = {"host": socket.gethostname(), "process": ended.pid}
    put(place / ".lock", **(ELSEWHERE | here))
    began = time.monotonic()
    with bucket_lock.held(place / ".lock", refuse):
        assert time.monotonic() - began < 5


def test_a_process_that_lost_the_lock_gets_an_error_and_leaves_the_lock(place):
    with bucket_lock.held(place / ".lock", refuse) as check_held:
        renewing = next(thread for thread in threading.enumerate() if "_renew" in thread.name)
        while renewing.is_alive():  # a renewal may be under way; the next one must not come
            put(place / ".lock", **ELSEWHERE)
            renewing.join(0.2)
        with pytest.raises(UserError, match="was taken over by process 7 on afar"):
            check_held()
    assert json.loads((place / ".lock").read_text()) == ELSEWHERE


def test_a_lock_that_another_process_takes_meanwhile_is_not_removed(place, monkeypatch):
    put(place / ".lock", **ELSEWHERE)
    read, quicker = bucket_lock._read, ELSEWHERE | {"token": "quicker"}

    def overtaken(path):
        found = read(path)
        put(place / ".lock", **quicker)  # after _remove has looked, before it deletes
        return found

    monkeypatch.setattr(bucket_lock, "_read", overtaken)
    with pytest.raises(FileExistsError):
        bucket_lock._remove(place / ".lock", ELSEWHERE)
    assert json.loads((place / ".lock").read_text()) == quicker


def test_one_of_many_processes_gets_it(place):
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


def test_the_holder_renews_and_the_lock_names_it(place):
    with bucket_lock.held(place / ".lock", refuse):
        first = json.loads((place / ".lock").read_text())
        time.sleep(0.3)
        later = json.loads((place / ".lock").read_text())
    assert later["renewed"] > first["renewed"]
    assert later | {"renewed": 0} == first | {"renewed": 0}
    assert (later["host"], later["process"]) == (socket.gethostname(), os.getpid())


def test_processes_of_this_host():
    assert not bucket_lock._is_running(os.getpid())
    assert bucket_lock._is_running(os.getppid())
    assert bucket_lock._is_running(1)  # also where this user may not send it signals


def test_the_times_are_those_of_the_docs():
    """docs/cloud.md: a renewal every 15 seconds, taken over after a minute without one."""
    assert DOCUMENTED == (15.0, 60.0)
