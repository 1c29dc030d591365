"""The built wheel works outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = ["wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", folder, source]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)
    (wheel,) = folder.glob("segen-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder


def test_the_wheel_holds_the_packages_and_nothing_else(installed):
    names = {path.name for path in (installed / "site").iterdir()}
    packages = {name for name in names if not name.endswith(".dist-info")}
    assert packages <= {"configs", "jaxgen", "jaxseg", "launch"}
    for package in packages:
        assert (installed / "site" / package / "py.typed").exists()
    (info,) = (installed / "site").glob("*.dist-info")
    assert (info / "licenses" / "LICENSE").exists()


def test_the_wheel_trains(installed, data_dir):
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, 'site'); import launch.train, launch.cli; "
        "assert launch.train.__file__.startswith(sys.argv.pop()), launch.train.__file__; "
        "launch.cli.run(launch.train.main)",
        "--config=configs/vae.py",
        f"--config.data.data_dir={data_dir}",
        "--config.train.steps=50",
        "--workdir=run",
        str(installed / "site"),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (installed / "run" / "checkpoints" / "50").is_dir()
