from pathlib import Path

import pytest

from launch.config.errors import Collapsed, Diverged, Interrupted, PeerLost, UserError
from tests.launch.cloud.stand_ins import SCRIPTS, TRAINING, calls, commands, run


def slurm(cloud, codes, **settings):
    Path(cloud["CALLS"] + ".codes").write_text("".join(f"{code}\n" for code in codes))
    return run(
        "slurm.sbatch",
        "--",
        *TRAINING,
        settings=cloud | {"SLURM_JOB_ID": "7", "PYTHON": "python3"} | settings,
    )


def test_slurm_directives():
    directives = {
        line.split(maxsplit=1)[1]
        for line in SCRIPTS["slurm.sbatch"].read_text().splitlines()
        if line.startswith("#SBATCH")
    }
    wanted = {"--ntasks-per-node=1", "--signal=TERM@120", "--requeue", "--open-mode=append"}
    assert wanted <= directives


def test_slurm_dry_run(bare):
    done = run(
        "slurm.sbatch",
        "--dry-run",
        "--",
        *TRAINING,
        settings={"PATH": str(bare), "PYTHON": "python3"},
    )
    assert done.returncode == 0, done.stderr
    train, requeue = commands(done.stdout)
    assert train[0] == "srun"
    assert train[-len(TRAINING) - 4 :] == [
        "python3",
        "-m",
        "launch.train",
        "--distributed",
        *TRAINING,
    ]
    assert "--ntasks-per-node=1" in train
    assert requeue == ["scontrol", "requeue", "$SLURM_JOB_ID"]


@pytest.mark.parametrize(
    ("codes", "runs", "requeued", "last"),
    [
        ([0], 1, False, 0),
        ([Interrupted.exit_code], 1, True, Interrupted.exit_code),
        ([143], 1, True, 143),
        ([1], 1, False, 1),
        ([UserError.exit_code], 1, False, UserError.exit_code),
        ([Diverged.exit_code], 1, False, Diverged.exit_code),
        ([Collapsed.exit_code], 1, False, Collapsed.exit_code),
        ([130], 1, False, 130),
        ([PeerLost.exit_code, 137, 0], 3, False, 0),
        ([PeerLost.exit_code, Interrupted.exit_code], 2, True, Interrupted.exit_code),
        ([PeerLost.exit_code] * 9, 3, False, PeerLost.exit_code),
    ],
)
def test_slurm_does_for_each_exit_code_what_it_asks_for(codes, runs, requeued, last, cloud):
    done = slurm(cloud, codes, RESTARTS="2")
    assert done.returncode == last
    dry = run(
        "slurm.sbatch",
        "--dry-run",
        "--",
        *TRAINING,
        settings=cloud | {"SLURM_JOB_ID": "7", "PYTHON": "python3"},
    )
    train, requeue = commands(dry.stdout)
    assert calls(cloud) == [train] * runs + [requeue] * requeued
    assert requeue == ["scontrol", "requeue", "7"]


def test_a_slurm_task_has_all_gpus_of_its_node(cloud):
    slurm(cloud, [0], SLURM_GPUS_ON_NODE="4")
    assert Path(cloud["CALLS"] + ".gpus").read_text() == "0,1,2,3\n"
    slurm(cloud, [0])
    assert Path(cloud["CALLS"] + ".gpus").read_text() == "\n"
