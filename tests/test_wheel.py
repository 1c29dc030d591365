"""The built wheel works outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tools import reading

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
    site = installed / "site"
    (info,) = site.glob("segen-*.dist-info")
    assert (info / "licenses" / "LICENSE").exists()
    packages = ("configs", "jaxgen", "jaxseg", "launch")
    assert {path.name for path in site.iterdir()} == {*packages, info.name}
    files = lambda root, pattern: {
        path.relative_to(root).as_posix()
        for package in packages
        for path in (root / package).rglob(pattern)
        if path.is_file() and path.suffix != ".pyc"
    }
    extra = {*files(ROOT, "cloud/*"), *(f"{package}/py.typed" for package in packages)}
    assert {f"launch/cloud/{name}" for name in ("Dockerfile", "common.sh", "slurm.sbatch")} < extra
    assert files(site, "*") == files(ROOT, "*.py") | extra


@pytest.fixture(scope="module")
def loaded(installed, data_dir):
    """Files that a training by the installed wheel loads, relative to site-packages."""
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, 'site'); {reading.TRAIN}",
        "--config=configs/vae.py",
        f"--config.data.data_dir={data_dir}",
        "--config.train.steps=50",
        "--workdir=run",
    ]
    # As a user runs it: without the suite's flags for XLA.
    ours = "PYTHONPATH", "XLA_FLAGS", "PJRT_NPROC"
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return reading.project_files(done.stdout.splitlines(), installed / "site")


def test_the_wheel_trains(installed, loaded):
    assert "launch/train.py" in loaded
    assert (installed / "run" / "checkpoints" / "50").is_dir()


def test_a_run_loads_few_files_and_lines(loaded):
    """What a reader of a run has to know does not grow unnoticed."""
    counts = reading.count([*loaded, "configs/vae.py"])
    assert counts["files"] <= 65
    assert counts["lines"] <= 9000
    assert counts["run"] <= 350
