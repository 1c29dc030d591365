"""The fuzzer notices each kind of wrong answer, and a few seconds of it find none.

It forks, which a process with threads of JAX must not do: so it runs in processes of its own.
"""

import copy
import json
import random
import subprocess
import sys
import zlib

import pytest

from tests.tools import fuzz_changes, fuzz_pixels
from tests.tools.runs import ROOT

QUICK = "files,images,masks,classes,layouts,outlines,generators,configs,weights"
WRONG = """
import os, pathlib, sys, time, warnings
from launch.config.errors import CommandExit, UserError
from launch.data.bad_file import BadFile
from tests.tools import fuzz

def raising(error):
    def function():
        raise error
    return lambda chance, templates, folder: fuzz.answer(function)

def wrote(chance, templates, folder):
    (folder / "input").write_text("here")
    raise KeyError("a name")

KINDS = {
    "sound": lambda chance, templates, folder: 0,
    "refused": raising(UserError("what is wrong and what to do")),
    "bad file": raising(BadFile("a.png", "the file is empty", "Copy it again")),
    "argument": raising(SystemExit(2)),
    "other code": raising(CommandExit("there are errors")),
    "no message": raising(UserError(" ")),
    "trace": raising(UserError("Traceback (most recent call last): ...")),
    "error": wrote,
    "warning": lambda chance, templates, folder: warnings.warn("careful") or 0,
    "memory": lambda chance, templates, folder: len(bytes(3 << 30)) * 0,
    "crash": lambda chance, templates, folder: os.abort(),
    "hang": lambda chance, templates, folder: time.sleep(60),
    "no text": lambda chance, templates, folder: print("\\udcff") or 0,
}
fuzz.LIMIT = 0.3
name, *arguments = sys.argv[1:]
kinds = {n: fuzz.Kind(KINDS[n]) for n in ([name] if name else KINDS)}
sys.exit(fuzz.main(arguments, kinds))
"""
RIGHT = ("sound", "refused", "bad file", "argument")


def run(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_a_few_seconds_find_nothing():
    limits = ("--seconds=5", "--cases=100")
    code, said = run("-m", "tests.tools.fuzz", *limits, f"--kinds={QUICK}", "--seed=7")
    assert code == 0, said
    counts = json.loads(said.splitlines()[-1])
    assert counts["seed"] == 7
    assert counts["kinds"].keys() == set(QUICK.split(","))
    assert 20 <= sum(count["cases"] for count in counts["kinds"].values()) == counts["cases"] <= 100


def test_every_wrong_answer_is_found_and_its_input_is_kept(tmp_path):
    wanted = {
        "other code": "exit code 1",
        "no message": "empty",
        "trace": "a stack trace",
        "error": "KeyError: 'a name'",
        "warning": "careful",
        "memory": "MemoryError",
        "crash": "SIGABRT",
        "hang": "0.3 s are over",
        "no text": "UnicodeEncodeError",
    }
    code, said = run("-c", WRONG, "", "--cases=60", f"--keep={tmp_path}")
    kinds = json.loads(said.splitlines()[-1])["kinds"]
    assert code == 1
    for name in RIGHT:
        many = kinds[name]["cases"]
        assert kinds[name] == {"cases": many, "exit 0" if name == "sound" else "exit 2": many}
    for name, reason in wanted.items():
        assert kinds[name]["failures"] == kinds[name]["cases"] > 0, name
        assert reason in said
    number = said.split("FAILED: error, --seed=0 --case=")[1].split(";")[0]
    assert (tmp_path / f"0-{number}" / "input").read_text() == "here"


def test_one_case_runs_again(tmp_path):
    code, said = run("-c", WRONG, "error", "--case=5", "--seed=3", f"--keep={tmp_path}")
    assert code == 1
    assert f"--seed=3 --case=5; its input is in {tmp_path}/3-5" in said
    assert json.loads(said.splitlines()[-1])["kinds"] == {"error": {"cases": 1, "failures": 1}}


@pytest.mark.parametrize("change", [fuzz_changes.change_bytes, fuzz_changes.change_png])
def test_a_case_follows_from_its_number(change):
    png = fuzz_pixels.pictures()["palette.png"]
    changed = [change(random.Random(f"0/{number}"), png) for number in range(40)]
    assert changed == [change(random.Random(f"0/{number}"), png) for number in range(40)]
    assert len({*changed, png}) > 30


def test_checksums_of_a_changed_png_are_right():
    png = fuzz_pixels.pictures()["colour.png"]
    for number in range(40):
        data, at = fuzz_changes.change_png(random.Random(number), png), 8
        while at < len(data):
            end = at + 8 + int.from_bytes(data[at : at + 4], "big")
            assert zlib.crc32(data[at + 4 : end]) == int.from_bytes(data[end : end + 4], "big")
            at = end + 4


def test_json_is_changed_in_a_copy():
    value = {"a": [1, {"b": "c"}], "d": None}
    kept = copy.deepcopy(value)
    changed = [fuzz_changes.change_json(random.Random(number), value) for number in range(40)]
    assert value == kept
    assert sum(one != kept for one in changed) > 30
    assert fuzz_changes.change_json(random.Random(0), []) in fuzz_changes.VALUES
