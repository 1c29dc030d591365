import shutil
import subprocess

import pytest

from tests.launch.cloud.stand_ins import (
    CLOUD,
    DOCKER,
    GCLOUD,
    KUBECTL,
    NEEDED,
    NOTE,
    PYTHON,
    SRUN,
    executable,
)


@pytest.fixture(scope="package")
def bare(tmp_path_factory):
    """A PATH with plain tools only: no gcloud, kubectl, docker, srun, scontrol."""
    folder = tmp_path_factory.mktemp("bare")
    for name in NEEDED:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"needs {name}")
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def cloud(tmp_path, bare):
    """Stand-ins for the cloud, with two workers; settings for `run`."""
    tools = tmp_path / "tools"
    tools.mkdir()
    head = "#!/usr/bin/env bash\n"
    executable(tools / "gcloud", head + NOTE + GCLOUD)
    executable(tools / "kubectl", head + NOTE + KUBECTL)
    executable(tools / "docker", head + NOTE + DOCKER)
    executable(tools / "scontrol", head + NOTE)
    executable(tools / "srun", head + NOTE + SRUN)
    executable(tools / "hostname", head + 'echo "worker-$WORKER"')
    executable(tools / "mountpoint", head + 'test -e "$HOME/mounted"')
    executable(tools / "gcsfuse", head + NOTE + 'touch "$HOME/mounted"')
    executable(tools / "sudo", head)  # makes the folders to mount at
    # What follows a log would not end.
    executable(tools / "tail", f'{head}[ "$3" = -F ] || exec {shutil.which("tail")} "$@"')
    for place in "01":
        python = tmp_path / "homes" / place / "segen-venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        executable(python, PYTHON)
    source = tmp_path / "source"
    shutil.copytree(CLOUD, source / "launch" / "cloud")
    (source / "pyproject.toml").write_text("")
    (source / ".gitignore").write_text("/runs/\n")
    (source / "runs").mkdir()
    (source / "runs" / "large").write_text("not to be sent")
    (source / "mine.py").write_text("not committed, yet to be sent")
    subprocess.run(["git", "init", "--quiet", source], check=True)
    (tmp_path / "calls").write_text("")
    return {
        "PATH": f"{tools}:{bare}",
        "CALLS": str(tmp_path / "calls"),
        "SOURCE": str(source),
        "HOMES": str(tmp_path / "homes"),
        "CLOUD_STATE": str(tmp_path / "state"),
        "SEGEN_PAUSE": "0",
        "POLL": "0.2",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PAUSE": "0",
    }
