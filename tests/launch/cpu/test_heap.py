"""Large pages are asked for where the system gives them to programs that ask."""

import os
import sys

import pytest

from launch.cpu import heap

NAME = "GLIBC_TUNABLES"


@pytest.fixture
def setting(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    return file


def test_they_are_asked_for_beside_what_the_user_set(setting):
    assert heap.large_pages({}, setting) == {NAME: "glibc.malloc.hugetlb=1"}
    both = heap.large_pages({NAME: "glibc.malloc.check=1"}, setting)
    assert both == {NAME: "glibc.malloc.check=1:glibc.malloc.hugetlb=1"}
    assert heap.large_pages({NAME: "glibc.malloc.hugetlb=0"}, setting) == {}


@pytest.mark.parametrize("text", ["[always] madvise never\n", "always madvise [never]\n"])
def test_not_where_all_or_none_get_them(setting, text):
    setting.write_text(text)
    assert heap.large_pages({}, setting) == {}
    assert heap.large_pages({}, setting.with_name("absent")) == {}


@pytest.mark.parametrize(
    ("started", "again"),
    [
        (["python", "-m", "launch.train", "--config=a"], True),
        (["python", "-X", "dev", "-m", "launch.check", "DIR"], True),
        (["python", "-m", "pytest", "-m", "launch.train"], False),
        (["python", "program.py"], False),
    ],
)
def test_only_commands_start_again_with_all_their_arguments(monkeypatch, started, again):
    calls = []
    monkeypatch.setattr(sys, "orig_argv", started)
    monkeypatch.setattr(heap, "large_pages", lambda environment: {NAME: "x"})
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    heap.restart_command()
    assert [(command, settings[NAME]) for _, command, settings in calls] == [(started, "x")] * again
