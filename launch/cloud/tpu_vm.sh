#!/usr/bin/env bash
# Trains on Cloud TPU VMs: one slice, or several as one queued resource.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

usage() {
  cat <<'USAGE'
launch/cloud/tpu_vm.sh VERB [FLAGS] [-- ARGUMENTS OF launch.train]

  run      create, install, mount, data, start
  watch    run, and again after every preemption, until the training is done
  resume   goes on after a stop or a preemption: creates again if need be, then as run

  create   the slice (SLICES=1), or a queued resource (SLICES>1 or QUEUED=1)
  install  sends the working tree to all workers and installs it there
  mount    mounts BUCKET at /mnt/segen on all workers
  data     copies DATA to /mnt/data on all workers
  start    starts training on all workers; it goes on when you log out
  logs     follows the log of worker 0
  status   of the slice and of every worker
  stop     the training saves and ends; the slice stays, and costs
  delete   the slice; asks first, unless --yes

Settings, from the environment (NAME=...) or as flags (--name=...):
  NAME     of the slice                        ZONE     e.g. us-west4-a
  TYPE     v5litepod-16, v6e-64, v5p-32, ...   PROJECT  default: that of gcloud
  VERSION  runtime; default: the one for TYPE  SPOT     1: cheaper, may be taken away
  SLICES   how many slices; default 1          QUEUED   1: wait in the queue for capacity
  BUCKET   gs:// bucket for --workdir          DATA     gs:// folder to copy
  SOURCE   the checkout; default: this one     INTERNAL_IPS  1: no external addresses
  CREATE_FLAGS  more flags for create          PRICE    USD a chip and hour, for the notice
  RESTARTS after failures in a row; default 10
  POLL     seconds between checks of watch; default 60
  DELETE   1: watch deletes the slice when the training ends
  --yes    delete without asking               --dry-run  print the commands, run nothing

Example:
  export NAME=segen ZONE=us-west4-a TYPE=v5litepod-16 SPOT=1 BUCKET=gs://my-bucket
  launch/cloud/tpu_vm.sh watch --delete -- --config=configs/vae.py --workdir=/mnt/segen/runs/vae

Exit codes: 0 done, 2 a user error, else of gcloud; watch: that of the training.
More in docs/cloud.md.
USAGE
}

SETTINGS="NAME ZONE PROJECT TYPE VERSION SPOT SLICES QUEUED BUCKET DATA SOURCE INTERNAL_IPS \
CREATE_FLAGS PRICE RESTARTS POLL DELETE YES DRY_RUN"
read_command "$@"

SLICES=${SLICES:-1} POLL=${POLL:-60}
[[ $SLICES =~ ^[1-9][0-9]*$ ]] || usage_error "SLICES=$SLICES is not a number of slices"
need NAME ZONE
BUCKET=${BUCKET#gs://} BUCKET=${BUCKET%/}
[ "$SLICES" = 1 ] || QUEUED=1

place=(--zone="$ZONE")
[ -z "$PROJECT" ] || place+=(--project="$PROJECT")
if [ -n "$QUEUED" ]; then
  group=(gcloud compute tpus queued-resources) all=(--node=all --worker=all) first=(--node=0 --worker=0)
else
  group=(gcloud compute tpus tpu-vm) all=(--worker=all) first=(--worker=0)
fi
if [ -n "$INTERNAL_IPS" ]; then all+=(--internal-ip) first+=(--internal-ip); fi

on_all() { run "${group[@]}" ssh "$NAME" "${place[@]}" "${all[@]}" --command="$1"; }

worker="bash segen/launch/cloud/worker.sh"

# --- type and costs ---------------------------------------------------------

need_type() {
  need TYPE
  local size=${TYPE##*-}
  [[ $size =~ ^[1-9][0-9]*$ ]] || usage_error "TYPE=$TYPE is not like v5litepod-16"
  case $TYPE in
    v5lite*) version=v2-alpha-tpuv5-lite chips=$size ;;
    v6e*) version=v2-alpha-tpuv6e chips=$size ;;
    v5p*) version=v2-alpha-tpuv5 chips=$((size / 2)) ;;  # the number counts cores
    v2* | v3* | v4*) version=tpu-ubuntu2204-base chips=$((size / 2)) ;;
    tpu7*) usage_error "TYPE=$TYPE: Cloud TPU VMs end with v6e; for newer chips take GKE (jobset.sh)" ;;
    *) version=$VERSION chips=$size && need VERSION ;;
  esac
  VERSION=${VERSION:-$version} chips=$((chips * SLICES))
}

notice() {
  local flags=(--name="$NAME" --zone="$ZONE")
  [ -z "$PROJECT" ] || flags+=(--project="$PROJECT")
  [ -z "$QUEUED" ] || flags+=(--queued)
  say ""
  [ -n "$made" ] || say "$NAME was not created, as far as this script knows. If it exists all the same:"
  if [ -n "$TYPE" ]; then need_type && say "$NAME costs until it is deleted: $(cost "$chips" "$TYPE")"; else
    say "$NAME costs until it is deleted, whether it trains or not"
  fi
  say "  follow:  $0 logs $(quote "${flags[@]}")"
  say "  delete:  $0 delete $(quote "${flags[@]}")"
}

# --- verbs --------------------------------------------------------------------------------

create() {
  need_type
  local command=("${group[@]}" create "$NAME" "${place[@]}" --accelerator-type="$TYPE")
  if [ -z "$QUEUED" ]; then command+=(--version="$VERSION"); else
    command+=(--runtime-version="$VERSION")
    if [ "$SLICES" = 1 ]; then command+=(--node-id="$NAME"); else
      command+=(--node-count="$SLICES" --node-prefix="$NAME")
    fi
  fi
  [ -z "$SPOT" ] || command+=(--spot)
  [ -z "$INTERNAL_IPS" ] || command+=(--internal-ips)
  local word
  for word in $CREATE_FLAGS; do command+=("$word"); done
  made=""
  run "${command[@]}" || return
  made=1
}

# A queued resource is created at once and gets its machines later.
await() {
  [ -n "$QUEUED" ] || return 0
  note "every $POLL s, until it says ACTIVE:"
  while :; do
    look
    case $state in
      ACTIVE) return ;;
      FAILED | SUSPENDED | GONE) say "$NAME is $state" && return 1 ;;
    esac
    say "$NAME is $state"
    sleep "$POLL"
  done
}

# Sets $state, from the cloud; GONE where there is no such thing, UNKNOWN on other errors.
look() {
  local format="value(state)" command
  [ -z "$QUEUED" ] || format="value(state.state)"
  command=("${group[@]}" describe "$NAME" "${place[@]}" --format="$format")
  if [ -n "$DRY_RUN" ]; then
    run "${command[@]}"
    state=READY
    [ -z "$QUEUED" ] || state=ACTIVE
    return
  fi
  # Only NOT_FOUND means that the slice is gone: a network error must not delete a good slice.
  local answer
  if answer=$("${command[@]}" 2>&1); then state=${answer##*$'\n'}; else
    case $answer in
      *NOT_FOUND* | *"not found"*) state=GONE ;;
      *) state=UNKNOWN && say "$answer" ;;
    esac
  fi
  state=${state:-UNKNOWN}
}

install() {
  # Pack once: watch goes on with the code that it began with.
  [ -n "${TARBALL:-}" ] || pack || return
  run "${group[@]}" scp "$TARBALL" "$NAME:segen.tar.gz" "${place[@]}" "${all[@]}" || return
  on_all "if [ -d segen ]; then $worker idle; fi && rm -rf segen && mkdir segen && tar -xzf segen.tar.gz -C segen && $worker install"
}

mount() {
  need BUCKET
  on_all "$worker mount $(quote "$BUCKET")"
}

data() {
  need DATA
  on_all "$worker data $(quote "${DATA%/}")"
}

start() {
  local limit=""
  [ -z "$RESTARTS" ] || limit="RESTARTS=$(quote "$RESTARTS") "
  on_all "$limit$worker start $(quote "${training[@]}")"
}

# Prepares a new slice and starts the training.
settle() {
  install || return
  if [ -n "$BUCKET" ]; then mount || return; fi
  if [ -n "$DATA" ]; then data || return; fi
  start
}

remove() {
  local command=("${group[@]}" delete "$NAME" "${place[@]}")
  [ -z "$QUEUED" ] || command+=(--force)
  [ -z "$YES" ] || command+=(--quiet)
  run "${command[@]}"
}

statuses="if [ -e segen/launch/cloud/worker.sh ]; then $worker status; else echo segen \$(hostname) new; fi"

resume() {
  look
  if [ -n "$DRY_RUN" ]; then
    note "where it is gone or preempted:"
    YES=1 remove
    create
    await
    note "where it is ready:"
    settle
    return
  fi
  case $state in
    READY | ACTIVE) ;;
    GONE) create && await || return ;;
    PREEMPTED | TERMINATED | STOPPED | SUSPENDED | FAILED) YES=1 remove && create && await || return ;;
    *) say "$NAME is $state; try again when it is ready, or gone" && return 1 ;;
  esac
  settle
}

# --- watch --------------------------------------------------------------------------------

# Reads every worker's line "segen HOST STATE [CODE]", and sets $progress: done, over (with
# $code), running, mixed, stopped, or silent.
read_progress() {
  local answer whole=1 host word number running=0 halted=0 finished=0
  code=0 progress=silent
  answer=$(on_all "$statuses" 2>/dev/null) || whole=""
  while read -r _ host word number _; do
    case $word:$number in
      running:*) running=$((running + 1)) ;;
      exit:0) finished=$((finished + 1)) ;;
      exit:[1234] | exit:130) code=$number ;;
      *) halted=$((halted + 1)) ;;  # new, idle, saved (75), or given up after failures
    esac
    [ "$word" = running ] || say "$host: $word $number"
  done < <(grep '^segen ' <<<"$answer")
  if [ "$code" != 0 ]; then progress=over
  elif [ $running -gt 0 ]; then
    progress=running
    [ $((halted + finished)) = 0 ] || progress=mixed
  elif [ $halted -gt 0 ]; then progress=stopped
  elif [ $finished -gt 0 ] && [ -n "$whole" ]; then progress='done'; fi
}

watch() {
  local mixed=0 starts=0 calm=0 limit=${RESTARTS:-10}
  while :; do
    look
    case $state in
      GONE) create || say "not created; trying again" ;;
      PREEMPTED | TERMINATED | STOPPED | SUSPENDED | FAILED)
        say "$NAME is $state; creating it again"
        { YES=1 remove && create; } || say "not created; trying again"
        ;;
      READY | ACTIVE)
        read_progress
        calm=$((calm + 1))
        case $progress in
          done) return 0 ;;
          over) return "$code" ;;
          running) mixed=0 && { [ $calm -lt 10 ] || starts=0; } ;;
          # Some workers run and some do not: usually these notice it and start again.
          mixed) mixed=$((mixed + 1)) ;;
          silent) say "$NAME does not answer" ;;
        esac
        if [ "$progress" = stopped ] || [ $mixed -ge 3 ]; then
          [ $starts -lt "$limit" ] || { say "started $starts times in a row without success" && return 76; }
          [ $mixed = 0 ] || on_all "if [ -d segen ]; then $worker stop; fi" || say "not stopped"
          starts=$((starts + 1)) mixed=0 calm=0
          settle || say "not started; trying again"
        fi
        ;;
      *) say "$NAME is $state" ;;
    esac
    sleep "$POLL"
  done
}

watch_dry() {
  note "every $POLL s, until the training is done:"
  look
  note "where it is gone or preempted:"
  YES=1 remove
  create
  note "where it is ready:"
  on_all "$statuses"
  note "where no worker trains, but the training is not done:"
  settle
  [ -z "$DELETE" ] || { note "at the end:" && YES=1 remove; }
}

case $verb in
  run | start | resume | watch) check_arguments "${training[@]+"${training[@]}"}" ;;
esac
case $verb in
  create | run | resume | watch) need_type ;;
esac
# Print the costs however these verbs end, also by an error or Ctrl-C.
made=1
case $verb in
  create | start | run | resume | watch) trap notice EXIT ;;
esac
case $verb in
  create)
    create
    await
    ;;
  run)
    create
    await
    settle
    ;;
  watch)
    if [ -n "$DRY_RUN" ]; then watch_dry && exit; fi
    code=0
    watch || code=$?
    say "the training ended with exit code $code"
    if [ -n "$DELETE" ]; then
      YES=1 remove
      trap - EXIT
    fi
    exit "$code"
    ;;
  install | mount | data | start | resume) "$verb" ;;
  logs) run "${group[@]}" ssh "$NAME" "${place[@]}" "${first[@]}" --ssh-flag=-t --command="tail -n 100 -F segen-run/log" ;;
  status)
    look
    [ -n "$DRY_RUN" ] || say "$NAME is $state"
    case $state in READY | ACTIVE) on_all "$statuses" ;; esac
    ;;
  stop) on_all "$worker stop" ;;
  delete) remove ;;
  *) usage_error "unknown verb $verb; see --help" ;;
esac
