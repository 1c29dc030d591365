import shlex
from pathlib import Path

import pytest

from launch.config.errors import Diverged, UserError
from tests.launch.cloud.stand_ins import (
    NOTE,
    SLICE,
    TRAINING,
    calls,
    commands,
    eventually,
    executable,
    home,
    run,
    trained,
)


def test_a_dry_run_needs_no_gcloud_and_prints_all_in_order(bare, tmp_path):
    settings = SLICE | {
        "PATH": str(bare),
        "BUCKET": "gs://bucket",
        "DATA": "gs://bucket/tfds/",
        "SPOT": "1",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    done = run("tpu_vm.sh", "run", "--dry-run", "--", *TRAINING, settings=settings)
    assert done.returncode == 0, done.stderr
    lines = [words for words in commands(done.stdout) if words[0] == "gcloud"]
    tpu = ["gcloud", "compute", "tpus", "tpu-vm"]
    where = "--zone=us-west4-a"
    assert lines[0] == [
        *tpu,
        "create",
        "segen",
        where,
        "--accelerator-type=v5litepod-16",
        "--version=v2-alpha-tpuv5-lite",
        "--spot",
    ]
    assert lines[1] == [
        *tpu,
        "scp",
        str(tmp_path / "segen/cloud/segen.tar.gz"),
        "segen:segen.tar.gz",
        where,
        "--worker=all",
    ]
    for words in lines[2:]:
        assert words[:-1] == [*tpu, "ssh", "segen", where, "--worker=all"]
    sent = [shlex.split(words[-1].removeprefix("--command=")) for words in lines[2:]]
    worker = ["bash", "segen/launch/cloud/worker.sh"]
    assert sent[0][-3:] == [*worker, "install"]
    assert sent[1] == [*worker, "mount", "bucket"]
    assert sent[2] == [*worker, "data", "gs://bucket/tfds"]
    assert sent[3] == [*worker, "start", *TRAINING]
    assert "16 chips x 1.20 USD = 19.20 USD an hour" in done.stderr
    assert "tpu_vm.sh delete --name=segen --zone=us-west4-a" in done.stderr
    assert not list(tmp_path.iterdir())


def test_several_slices_are_one_queued_resource(bare):
    settings = SLICE | {"PATH": str(bare), "SLICES": "2", "PROJECT": "p", "TYPE": "v5p-32"}
    done = run(
        "tpu_vm.sh", "run", "--dry-run", "--internal-ips", "--", *TRAINING, settings=settings
    )
    lines = [words for words in commands(done.stdout) if words[0] == "gcloud"]
    group = ["gcloud", "compute", "tpus", "queued-resources"]
    assert lines[0] == [
        *group,
        "create",
        "segen",
        "--zone=us-west4-a",
        "--project=p",
        "--accelerator-type=v5p-32",
        "--runtime-version=v2-alpha-tpuv5",
        "--node-count=2",
        "--node-prefix=segen",
        "--internal-ips",
    ]
    assert lines[1] == [
        *group,
        "describe",
        "segen",
        "--zone=us-west4-a",
        "--project=p",
        "--format=value(state.state)",
    ]
    for words in lines[2:]:
        assert words[:4] == group
        assert {"--node=all", "--worker=all", "--internal-ip"} <= set(words)
    assert "32 chips x 4.20 USD" in done.stderr  # v5p counts cores: 2 slices of 16 chips
    done = run("tpu_vm.sh", "delete", "--dry-run", "--yes", settings=settings)
    assert commands(done.stdout)[0][4:] == [
        "delete",
        "segen",
        "--zone=us-west4-a",
        "--project=p",
        "--force",
        "--quiet",
    ]


@pytest.mark.parametrize(
    "verb",
    ["create", "install", "mount", "data", "start", "run", "logs", "status", "stop", "delete"],
)
def test_what_is_run_is_what_a_dry_run_prints(verb, cloud):
    settings = SLICE | cloud | {"BUCKET": "bucket", "DATA": "gs://bucket/d"}
    words = [verb, "--", *TRAINING]
    planned = run("tpu_vm.sh", *words, settings=settings | {"DRY_RUN": "1"})
    assert calls(cloud) == []
    Path(cloud["CLOUD_STATE"]).write_text("READY\n")
    for place in "01":
        (home(cloud, place) / "mounted").touch()
    run("tpu_vm.sh", *words, settings=settings)
    expected = [words for words in commands(planned.stdout) if words[0] == "gcloud"]
    assert [words for words in calls(cloud) if words[:3] == expected[0][:3]] == expected


def test_a_run_trains_on_every_worker_with_the_very_arguments(cloud):
    settings = SLICE | cloud | {"BUCKET": "gs://bucket"}
    done = run("tpu_vm.sh", "run", "--", *TRAINING, settings=settings)
    assert done.returncode == 0, done.stderr
    for place in "01":
        eventually(lambda place=place: (home(cloud, place) / "segen-run" / "exit").exists())
        assert trained(cloud, place) == [["--distributed", *TRAINING]]
        code = home(cloud, place) / "segen"
        assert (code / "mine.py").exists()
        assert not (code / "runs").exists()
    mounts = [words for words in calls(cloud) if words[0] == "gcsfuse"]
    assert [words[-2:] for words in mounts] == [["bucket", "/mnt/segen"]] * 2
    done = run("tpu_vm.sh", "status", settings=settings)
    assert "segen worker-1 exit 0" in done.stdout


def test_training_outlives_the_call_and_saves_on_stop(cloud):
    settings = SLICE | cloud
    for place in "01":
        (home(cloud, place) / "codes").write_text("wait\n")
        (home(cloud, place) / "mounted").touch()
    run("tpu_vm.sh", "run", "--", *TRAINING, settings=settings)
    for place in "01":
        eventually(lambda place=place: (home(cloud, place) / "trains").exists())
    assert run("tpu_vm.sh", "status", settings=settings).stdout.count(" running ") == 2
    again = run("tpu_vm.sh", "start", "--", *TRAINING, settings=settings)
    assert "trains already" in again.stderr
    assert run("tpu_vm.sh", "install", settings=settings).returncode != 0
    run("tpu_vm.sh", "stop", settings=settings)
    assert run("tpu_vm.sh", "status", settings=settings).stdout.count(" exit 75 ") == 2
    assert len(trained(cloud)) == 1


def test_nothing_is_written_where_no_bucket_is_mounted(cloud):
    settings = SLICE | cloud
    done = run("tpu_vm.sh", "run", "--", *TRAINING, settings=settings)
    assert done.returncode == UserError.exit_code
    assert "not mounted" in done.stderr
    assert trained(cloud) == []
    assert "tpu_vm.sh delete --name=segen" in done.stderr  # it runs, though the start failed


def test_watch_goes_on_after_preemptions_until_it_is_done(cloud):
    settings = SLICE | cloud | {"BUCKET": "bucket", "DELETE": "1"}
    state = Path(cloud["CLOUD_STATE"])
    # First it is still being made, then it was taken away; then what the stand-in knows.
    state.with_name("state.script").write_text("CREATING\nPREEMPTED\nREADY\n")
    for place in "01":
        (home(cloud, place) / "codes").write_text("75\n0\n")
    done = run("tpu_vm.sh", "watch", "--", *TRAINING, settings=settings)
    assert done.returncode == 0, done.stderr
    verbs = [words[4] for words in calls(cloud) if words[0] == "gcloud"]
    assert verbs.count("create") == 1  # after PREEMPTED
    assert verbs.count("delete") == 2  # then, and at the end
    assert verbs[-1] == "delete"
    for place in "01":
        assert trained(cloud, place) == [["--distributed", *TRAINING]] * 2
    assert "exit 75" in done.stderr


def test_watch_creates_what_is_not_there_and_ends_with_the_code_of_the_training(cloud):
    for place in "01":
        (home(cloud, place) / "codes").write_text("3\n")
    settings = SLICE | cloud | {"BUCKET": "bucket"}
    done = run("tpu_vm.sh", "watch", "--", *TRAINING, settings=settings)
    assert done.returncode == Diverged.exit_code, done.stderr
    verbs = [words[4] for words in calls(cloud) if words[0] == "gcloud"]
    assert verbs[:2] == ["describe", "create"]
    assert "delete" not in verbs
    assert "tpu_vm.sh delete --name=segen" in done.stderr


def test_a_slice_is_not_given_up_for_an_error_of_the_line(cloud):
    # describe fails, but not with NOT_FOUND: the state is unknown, and resume does nothing.
    executable(
        Path(cloud["PATH"].split(":")[0]) / "gcloud",
        "#!/usr/bin/env bash\n" + NOTE + "echo 'ERROR: network' >&2; exit 1\n",
    )
    done = run("tpu_vm.sh", "resume", "--", *TRAINING, settings=SLICE | cloud)
    assert done.returncode == 1
    assert [words[4] for words in calls(cloud)] == ["describe"]
