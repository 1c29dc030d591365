"""The README's own code and commands, run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"```shell\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("readme")
    for name, content in FILES.items():
        (place / name).write_text(content)
    return place


def run(folder, data_dir, *command):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": data_dir}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_readme_has_what_we_look_for():
    assert set(FILES) == {"mine.py", "stripes.py", "autoencoder.py", "library.py"}
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_own_data_net_and_task(folder, data_dir, command):
    python, *rest = shlex.split(command)
    assert python == "python"
    done = run(folder, data_dir, sys.executable, *rest)
    assert done.returncode == 0, done.stderr
    workdir = folder / re.search(r"--workdir=(\S+)", command)[1]
    assert list((workdir / "figures").glob("*-00000300.png"))


def test_the_library_example(folder, data_dir):
    done = run(folder, data_dir, sys.executable, "library.py")
    assert done.returncode == 0, done.stderr
    assert "bits_per_dim" in done.stdout


def test_the_segmentation_example(folder, data_dir):
    guide = (ROOT / "docs" / "segmentation.md").read_text()
    name, content = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", guide, re.DOTALL)[0]
    (folder / name).write_text(content)
    done = run(folder, data_dir, sys.executable, name)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("\n")[0]) == 1.0


def test_every_file_that_the_documents_name_exists():
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
