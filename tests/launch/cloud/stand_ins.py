"""Stand-ins for gcloud, kubectl, docker, srun and scontrol, for the tests of launch/cloud.

A stand-in records its call and does what the script needs. The one of gcloud runs the commands
that are sent to a worker in that worker's own home folder.
"""

import os
import shlex
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
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
    """Writes a script that can be run."""
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


def calls(cloud):
    """What the stand-ins were called with, in order."""
    lines = Path(cloud["CALLS"]).read_text().splitlines()
    return [line.rstrip("\x1f").split("\x1f") for line in lines]


def home(cloud, place=0):
    """The home folder of a worker."""
    return Path(cloud["HOMES"]) / str(place)


def trained(cloud, place=0):
    """The arguments of each start of training on a worker."""
    path = home(cloud, place) / "trained"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.rstrip("\x1f").split("\x1f") for line in lines]


def eventually(condition):
    """Waits up to ten seconds for a condition."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")
