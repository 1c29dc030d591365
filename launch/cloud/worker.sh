#!/usr/bin/env bash
# The commands that tpu_vm.sh runs on a worker, after it has sent the code there.
#   install | mount BUCKET | data gs://... | start ARGUMENTS | status | stop | idle
# The code lies in ~/segen, its Python in ~/segen-venv, log and state in ~/segen-run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python="$HOME/segen-venv/bin/python"
state="$HOME/segen-run"
mount_point=/mnt/segen
data_folder=/mnt/data
host=$(hostname)

say() { printf '%s: %s\n' "$host" "$*" >&2; }

usage_error() {
  say "$*"
  exit 2
}

# Sets $pid to the process of `supervise`, if it runs; an id from before a reboot does not count.
alive() {
  pid=$(cat "$state/pid" 2>/dev/null) || return 1
  [[ $(ps -o args= -p "$pid" 2>/dev/null) == *worker.sh\ supervise* ]]
}

install() {
  local candidate found=""
  for candidate in python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      found=$candidate && break
    fi
  done
  if [ -x "$python" ]; then
    "$python" -m pip install --quiet --editable "${root}[tpu,gcs]"
  elif [ -n "$found" ]; then
    "$found" -m venv "$HOME/segen-venv"
    "$python" -m pip install --quiet --editable "${root}[tpu,gcs]"
  else
    # The images of Ubuntu 22.04 have Python 3.10; uv brings one that is new enough.
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --seed --python 3.12 "$HOME/segen-venv"
    "$python" -m pip install --quiet --editable "${root}[tpu,gcs]"
  fi
  say "installed"
}

mount_bucket() {
  if mountpoint -q "$mount_point"; then say "$mount_point is mounted" && return; fi
  if ! command -v gcsfuse >/dev/null; then
    local key=/usr/share/keyrings/cloud.google.asc
    curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" >/dev/null
    echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -c -s) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    # A new machine updates itself, and holds apt's lock meanwhile.
    sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
    sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y gcsfuse >/dev/null
  fi
  sudo mkdir -p "$mount_point"
  sudo chown "$(id -u):$(id -g)" "$mount_point"
  # Without a cache of metadata, a worker sees at once what another has written.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --rename-dir-limit=200000 "$1" "$mount_point"
  say "mounted gs://$1 at $mount_point"
}

copy_data() {
  sudo mkdir -p "$data_folder"
  sudo chown "$(id -u):$(id -g)" "$data_folder"
  gcloud storage rsync "$1" "$data_folder" --recursive
  say "copied $1 to $data_folder"
}

start() {
  if alive; then say "trains already (tpu_vm.sh stop stops it)" && return; fi
  [ -x "$python" ] || usage_error "nothing is installed: tpu_vm.sh install"
  if [[ "$* " == *"$mount_point/"* ]]; then
    mountpoint -q "$mount_point" || usage_error "$mount_point is not mounted, and what is written there would be lost: tpu_vm.sh mount"
  fi
  mkdir -p "$state"
  rm -f "$state/pid" "$state/exit"
  # Detached, so that the training goes on when this terminal closes.
  setsid nohup bash "${BASH_SOURCE[0]}" supervise "$@" >>"$state/log" 2>&1 </dev/null &
  for _ in $(seq 100); do
    if [ -s "$state/pid" ] || [ -e "$state/exit" ]; then break; fi
    sleep 0.1
  done
  say "started; log in ~/segen-run/log"
}

# Trains until an exit code says that another start is useless. Every worker does the same,
# and at each start the workers wait for each other.
supervise() {
  local child="" code began failures=0 limit=${RESTARTS:-10} pause ended=""
  echo $$ >"$state/pid"
  trap 'ended=1; if [ -n "$child" ]; then kill -TERM "$child" || true; fi' TERM INT HUP
  cd "$root"
  while :; do
    began=$SECONDS
    echo "--- $(date -u +%FT%TZ) $host: python -m launch.train --distributed $*"
    "$python" -m launch.train --distributed "$@" &
    child=$!
    while :; do  # wait returns early when a signal comes
      code=0
      wait "$child" || code=$?
      kill -0 "$child" 2>/dev/null || break
    done
    child=""
    [ $((SECONDS - began)) -lt 600 ] || failures=0
    # 76: a process is missing; from 128 on: killed by a signal.
    if [ -n "$ended" ] || { [ $code != 76 ] && [ $code -lt 128 ]; } || [ $code = 130 ]; then break; fi
    failures=$((failures + 1))
    [ $failures -le "$limit" ] || break
    pause=$((failures < 7 ? 5 << failures : 300))
    echo "--- $host: exit $code; starting again in $pause s ($failures of $limit)"
    sleep "${SEGEN_PAUSE:-$pause}" &
    wait $! || true
    [ -z "$ended" ] || break
  done
  echo "--- $host: exit $code"
  echo "$code" >"$state/exit"
  rm -f "$state/pid"
  exit "$code"
}

# One line: segen HOST new|idle|running|exit [CODE] | the last line of the log.
status() {
  local word=idle
  if alive; then word=running; elif [ -s "$state/exit" ]; then word="exit $(cat "$state/exit")"; elif [ -e "$state/log" ]; then
    word="exit 137"  # no exit code: the machine or the supervisor was killed
  fi
  printf 'segen %s %s | %s\n' "$host" "$word" "$(tail -n 1 "$state/log" 2>/dev/null || true)"
}

stop() {
  if ! alive; then say "does not train" && return; fi
  kill -TERM "$pid"
  for _ in $(seq 600); do
    if ! alive; then say "stopped: exit $(cat "$state/exit")" && return; fi
    sleep 1
  done
  say "still saves after 10 minutes; look at the log"
  exit 1
}

verb=${1:-}
shift || true
case $verb in
  install) install ;;
  mount) mount_bucket "$1" ;;
  data) copy_data "$1" ;;
  start) start "$@" ;;
  supervise) supervise "$@" ;;
  status) status ;;
  stop) stop ;;
  idle) if alive; then usage_error "it trains; first: tpu_vm.sh stop"; fi ;;
  *) usage_error "unknown verb ${verb:-(none)}" ;;
esac
