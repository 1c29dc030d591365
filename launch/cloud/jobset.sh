#!/usr/bin/env bash
# Trains on Kubernetes by a JobSet: slices of TPUs on GKE, or nodes with GPUs anywhere.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

usage() {
  cat <<'USAGE'
launch/cloud/jobset.sh VERB [FLAGS] [-- ARGUMENTS OF launch.train]

  image     builds IMAGE from the working tree, and pushes it
  manifest  prints the manifest
  apply     starts training: applies the manifest
  restart   deletes what has ended or runs under NAME, then as apply
  logs      follows process 0
  status    of the JobSet and its pods
  delete    the JobSet (the workdir stays); asks first, unless --yes

Settings, from the environment (NAME=...) or as flags (--name=...):
  NAME      of the JobSet                     IMAGE      REGISTRY/NAME:TAG
  BUCKET    gs:// bucket, mounted at /mnt/segen by GKE's gcsfuse driver; or
  CLAIM     a PersistentVolumeClaim (ReadWriteMany), mounted there
  TPU       tpu-v5-lite-podslice, tpu-v6e-slice, tpu-v5p-slice, ...; or
  GPUS      GPUs of a node
  TOPOLOGY  of a TPU slice, e.g. 4x4          CHIPS      chips of a TPU node; default 4
  SLICES    TPU slices; default 1             HOSTS      GPU nodes
  SELECTOR  more node labels, KEY=VALUE,...   SPOT       1: GKE's spot nodes
  SERVICE_ACCOUNT  default: default           MAX_RESTARTS  after failures; default 10
  NAMESPACE, CONTEXT  of kubectl              PRICE      USD a chip and hour, for the notice
  SOURCE    the checkout; default: this one   --yes      delete without asking
  --dry-run print the manifest and the commands, run nothing

Examples:
  export NAME=segen IMAGE=us-docker.pkg.dev/my-project/segen/segen:1 BUCKET=gs://my-bucket
  launch/cloud/jobset.sh image
  launch/cloud/jobset.sh apply --tpu=tpu-v5-lite-podslice --topology=4x4 -- \
      --config=configs/vae.py --workdir=/mnt/segen/runs/vae
  launch/cloud/jobset.sh apply --gpus=8 --hosts=2 -- \
      --config=configs/vae.py --workdir=/mnt/segen/runs/vae

Exit codes: 0 done, 2 a user error, else of kubectl or docker. More in docs/cloud.md.
USAGE
}

SETTINGS="NAME IMAGE BUCKET CLAIM TPU GPUS TOPOLOGY CHIPS SLICES HOSTS SELECTOR SPOT \
SERVICE_ACCOUNT MAX_RESTARTS NAMESPACE CONTEXT PRICE SOURCE YES DRY_RUN"
read_command "$@"
need NAME
[[ $NAME =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] || usage_error "NAME=$NAME: Kubernetes wants small letters, digits and -, at most 40"
BUCKET=${BUCKET#gs://} BUCKET=${BUCKET%/}

kubectl=(kubectl)
[ -z "$CONTEXT" ] || kubectl+=(--context="$CONTEXT")
[ -z "$NAMESPACE" ] || kubectl+=(--namespace="$NAMESPACE")
ours="jobset.sigs.k8s.io/jobset-name=$NAME"

# A YAML string.
yaml() {
  local text=$1 backslash=\\ mark=\"
  text=${text//"$backslash"/"$backslash$backslash"}
  text=${text//"$mark"/"$backslash$mark"}
  text=${text//$'\n'/"${backslash}n"}
  text=${text//$'\t'/"${backslash}t"}
  printf '"%s"' "$text"
}

plan() {
  need IMAGE
  [ -n "$BUCKET$CLAIM" ] || usage_error "BUCKET is not set; give BUCKET=gs://... or CLAIM=..., which all pods mount at $MOUNT"
  [ -z "$BUCKET" ] || [ -z "$CLAIM" ] || usage_error "BUCKET and CLAIM are both set; give one"
  [ -n "$TPU$GPUS" ] || usage_error "TPU is not set; give TPU=... and TOPOLOGY=..., or GPUS=... and HOSTS=..."
  SLICES=${SLICES:-1} selector="" annotations="" pod_annotations=""
  if [ -n "$TPU" ]; then
    [ -z "$GPUS" ] || usage_error "TPU and GPUS are both set; give one"
    need TOPOLOGY
    [[ $TOPOLOGY =~ ^[0-9]+(x[0-9]+){1,2}$ ]] || usage_error "TOPOLOGY=$TOPOLOGY is not like 4x4 or 2x2x4"
    CHIPS=${CHIPS:-4} all_chips=$((${TOPOLOGY//x/*}))
    [ $((all_chips % CHIPS)) = 0 ] || usage_error "TOPOLOGY=$TOPOLOGY has $all_chips chips, which nodes of CHIPS=$CHIPS do not divide"
    HOSTS=$((all_chips / CHIPS)) all_chips=$((all_chips * SLICES))
    limits="{google.com/tpu: $CHIPS}"
    selector="cloud.google.com/gke-tpu-accelerator=$TPU,cloud.google.com/gke-tpu-topology=$TOPOLOGY"
    # Each slice on a node pool of its own.
    annotations="alpha.jobset.sigs.k8s.io/exclusive-topology=cloud.google.com/gke-nodepool"
  else
    need HOSTS
    [ "$SLICES" = 1 ] || usage_error "SLICES=$SLICES: slices are of TPUs; give HOSTS=..."
    all_chips=$((GPUS * HOSTS))
    limits="{nvidia.com/gpu: $GPUS}"
  fi
  [ -z "$SPOT" ] || selector="$selector,cloud.google.com/gke-spot=true"
  [ -z "$SELECTOR" ] || selector="$selector,$SELECTOR"
  if [ -n "$BUCKET" ]; then
    pod_annotations="gke-gcsfuse/volumes=true"
    shared="{name: shared, csi: {driver: gcsfuse.csi.storage.gke.io, volumeAttributes: {bucketName: $(yaml "$BUCKET"), \
mountOptions: \"implicit-dirs,metadata-cache:ttl-secs:0,rename-dir-limit=200000\"}}}"
  else
    shared="{name: shared, persistentVolumeClaim: {claimName: $(yaml "$CLAIM")}}"
  fi
}

# KEY=VALUE,... -> {KEY: "VALUE", ...}
mapping() {
  local pair line="" IFS=,
  for pair in $1; do [ -z "$pair" ] || line="$line, ${pair%%=*}: $(yaml "${pair#*=}")"; done
  printf '{%s}' "${line#, }"
}

arguments() {
  # Kubernetes replaces $(NAME) by a variable, and $$(NAME) by $(NAME).
  local word line="" open="\$(" escaped="\$\$("
  for word in "${training[@]}"; do
    word=${word//"$open"/"$escaped"}
    line="$line, $(yaml "$word")"
  done
  if [ -n "$GPUS" ]; then
    # Names that JobSet gives its pods; Kubernetes fills the index in.
    line="$line, $(yaml "--coordinator=$NAME-slice-0-0.$NAME:8476"), \"--processes=$HOSTS\", \"--process=\$(JOB_COMPLETION_INDEX)\""
  fi
  printf '[%s]' "${line#, }"
}

manifest() {
  local line
  while IFS= read -r line; do
    case $line in
      *@NAME@*) line=${line/@NAME@/"$NAME"} ;;
      *@ANNOTATIONS@*) line=${line/@ANNOTATIONS@/"$(mapping "$annotations")"} ;;
      *@POD_ANNOTATIONS@*) line=${line/@POD_ANNOTATIONS@/"$(mapping "$pod_annotations")"} ;;
      *@MAX_RESTARTS@*) line=${line/@MAX_RESTARTS@/"${MAX_RESTARTS:-10}"} ;;
      *@SLICES@*) line=${line/@SLICES@/"$SLICES"} ;;
      *@HOSTS@*) line=${line/@HOSTS@/"$HOSTS"} ;;
      *@SERVICE_ACCOUNT@*) line=${line/@SERVICE_ACCOUNT@/"$(yaml "${SERVICE_ACCOUNT:-default}")"} ;;
      *@SELECTOR@*) line=${line/@SELECTOR@/"$(mapping "$selector")"} ;;
      *@IMAGE@*) line=${line/@IMAGE@/"$(yaml "$IMAGE")"} ;;
      *@ARGS@*) line=${line/@ARGS@/"$(arguments)"} ;;
      *@LIMITS@*) line=${line/@LIMITS@/"$limits"} ;;
      *@SHARED@*) line=${line/@SHARED@/"$shared"} ;;
    esac
    printf '%s\n' "$line"
  done <"$here/jobset.yaml"
}

apply() {
  if [ -n "$DRY_RUN" ]; then
    printf "%s <<'MANIFEST'\n" "$(quote "${kubectl[@]}" apply --filename=-)"
    manifest
    echo MANIFEST
    return
  fi
  say "+ $(quote "${kubectl[@]}" apply --filename=-)"
  "${kubectl[@]}" apply --filename=- <<<"$(manifest)"
}

notice() {
  local flags=(--name="$NAME")
  [ -z "$NAMESPACE" ] || flags+=(--namespace="$NAMESPACE")
  [ -z "$CONTEXT" ] || flags+=(--context="$CONTEXT")
  say ""
  say "$NAME holds $((HOSTS * SLICES)) nodes until it is done or deleted: $(cost "$all_chips" "${TPU:-gpu}")"
  say "(nodes cost as long as they exist: a node pool without autoscaling stays when $NAME is gone)"
  say "  follow:  $0 logs $(quote "${flags[@]}")"
  say "  delete:  $0 delete $(quote "${flags[@]}")"
}

image() {
  need IMAGE
  local extra=tpu
  [ -z "$GPUS" ] || extra=cuda
  pack || return
  local build=(docker build --file=launch/cloud/Dockerfile --build-arg=EXTRA="$extra" --tag="$IMAGE" -)
  if [ -n "$DRY_RUN" ]; then printf '%s < %s\n' "$(quote "${build[@]}")" "$(quote "$TARBALL")"; else
    say "+ $(quote "${build[@]}") < $(quote "$TARBALL")"
    "${build[@]}" <"$TARBALL" || return
  fi
  run docker push "$IMAGE"
}

remove() {
  if [ -z "$YES" ] && [ -z "$DRY_RUN" ]; then
    local answer=""
    printf 'delete %s? [y/N] ' "$NAME" >&2
    read -r answer || true
    [[ $answer == [yY]* ]] || { say "not deleted" && return 1; }
  fi
  run "${kubectl[@]}" delete jobset "$NAME"
}

case $verb in
  image) image ;;
  manifest | apply | restart)
    check_arguments "${training[@]+"${training[@]}"}"
    plan
    if [ "$verb" = manifest ]; then manifest && exit; fi
    # A JobSet cannot be changed, and one that has ended does not start again.
    [ "$verb" = apply ] || run "${kubectl[@]}" delete jobset "$NAME" --ignore-not-found
    apply
    notice
    ;;
  logs)
    run "${kubectl[@]}" logs --follow --container=segen \
      --selector="$ours,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
    ;;
  status)
    run "${kubectl[@]}" get jobset "$NAME"
    run "${kubectl[@]}" get pods --selector="$ours" --output=wide
    ;;
  delete) remove ;;
  *) usage_error "unknown verb $verb; see --help" ;;
esac
