# shellcheck shell=bash
# Functions of tpu_vm.sh and jobset.sh: messages, settings, and commands that --dry-run
# only prints. For bash 3.2, the version of macOS.

MOUNT=/mnt/segen  # where the bucket is mounted, on every worker and in every pod
DRY_RUN=${DRY_RUN:-}

say() { printf '%s\n' "$*" >&2; }

usage_error() {
  say "${0##*/}: $*"
  exit 2
}

# Quotes words for a shell; words that need no quotes stay as they are.
quote() {
  local word mark="'" escaped="'\\''" plain='^[A-Za-z0-9_@%+=:,./-]+$' line=""
  for word in "$@"; do
    if ! [[ $word =~ $plain ]]; then
      word=${word//"$mark"/"$escaped"}
      word="'$word'"
    fi
    line="$line $word"
  done
  printf '%s\n' "${line# }"
}

# Runs a command and shows it; with --dry-run shows it only, on stdout.
run() {
  if [ -n "$DRY_RUN" ]; then quote "$@"; else
    say "+ $(quote "$@")"
    "$@"
  fi
}

# With --dry-run: prints a comment about what the script would do between two commands.
note() { [ -z "$DRY_RUN" ] || printf '# %s\n' "$*"; }

# --some-key=VALUE sets SOME_KEY, --some-key sets it to 1. $SETTINGS lists the keys.
set_flag() {
  local flag=${1#--} value=1 name
  case $flag in *=*) value=${flag#*=} flag=${flag%%=*} ;; esac
  name=$(printf '%s' "$flag" | tr 'a-z-' 'A-Z_')
  case " $SETTINGS " in
    *" $name "*) printf -v "$name" '%s' "$value" ;;
    *) usage_error "unknown flag $1; see --help" ;;
  esac
}

# Reads VERB --FLAGS -- ARGUMENTS into $verb, the settings, and the array $training.
# Settings that no flag gives come from the environment.
read_command() {
  local setting
  for setting in $SETTINGS; do printf -v "$setting" '%s' "${!setting:-}"; done
  verb="" training=()
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage && exit ;;
      --)
        shift
        # shellcheck disable=SC2034  # the scripts use it
        training=("$@")
        break
        ;;
      --*) set_flag "$1" ;;
      *)
        [ -z "$verb" ] || usage_error "one verb at a time: $verb or $1; see --help"
        verb=$1
        ;;
    esac
    shift
  done
  [ -n "$verb" ] || usage_error "no verb; see --help"
}

# Leaves with 2 where one of the named settings is empty.
need() {
  local name flag
  for name in "$@"; do
    flag=$(printf '%s' "$name" | tr 'A-Z_' 'a-z-')
    [ -n "${!name:-}" ] || usage_error "$name is not set; give $name=... or --$flag=... (see --help)"
  done
}

# Refuses arguments of launch.train that cannot work on machines that may be replaced.
check_arguments() {
  local word config="" workdir=""
  for word in "$@"; do
    case $word in
      --config=?*) config=1 ;;
      --workdir=/?* | --workdir=gs://?*) workdir=1 ;;
      --workdir=*) usage_error "--workdir must be absolute: --workdir=$MOUNT/runs/NAME, or gs://BUCKET/runs/NAME" ;;
      --distributed) usage_error "--distributed is added by this script" ;;
      -*) ;;
      *) usage_error "after -- come the arguments of launch.train, as --KEY=VALUE; not $word" ;;
    esac
  done
  [ -n "$config" ] || usage_error "--config is missing; give -- --config=FILE.py --workdir=$MOUNT/runs/NAME"
  [ -n "$workdir" ] || usage_error "--workdir is missing: all processes must share it, and it must outlive them; give --workdir=$MOUNT/runs/NAME"
}

# Packs the working tree: with uncommitted files, without ignored ones.
pack() {
  local source=${SOURCE:-$here/../..} index
  # An installed package is no checkout; then the current folder may be one.
  [ -n "${SOURCE:-}" ] || [ -e "$source/pyproject.toml" ] || source=$PWD
  if ! [ -e "$source/pyproject.toml" ] || ! [ -e "$source/launch/cloud/worker.sh" ]; then
    usage_error "SOURCE: $source is not a checkout of Segen; give SOURCE=FOLDER"
  fi
  source=$(cd "$source" && pwd)
  local folder="${XDG_CACHE_HOME:-$HOME/.cache}/segen/cloud"
  TARBALL="$folder/${NAME:?}.tar.gz" index="$folder/$NAME.index"
  if [ -n "$DRY_RUN" ]; then
    quote mkdir -p "$folder"
    quote env "GIT_INDEX_FILE=$index" git -C "$source" add --all
    printf "%s \"\$(%s)\"\n" "$(quote git -C "$source" archive --format=tar.gz --output="$TARBALL")" \
      "$(quote env "GIT_INDEX_FILE=$index" git -C "$source" write-tree)"
    return
  fi
  say "packing $source"
  mkdir -p "$folder"
  # A separate index, so that the user's staged files stay as they are.
  GIT_INDEX_FILE=$index git -C "$source" add --all || return
  git -C "$source" archive --format=tar.gz --output="$TARBALL" \
    "$(GIT_INDEX_FILE=$index git -C "$source" write-tree)"
}

# List prices in USD of a chip for an hour, on demand, in the cheapest regions. They age:
# docs/cloud.md says where they are from. PRICE=... overrides.
price_of() {
  case $1 in
    v5lite* | v5e | tpu-v5-lite*) echo 1.20 ;;
    v5p* | tpu-v5p*) echo 4.20 ;;
    v6e* | tpu-v6e*) echo 2.70 ;;
    v4* | tpu-v4*) echo 3.22 ;;
  esac
}

# cost CHIPS KIND: the price of an hour, if it is known.
cost() {
  local price=${PRICE:-$(price_of "$2")} spot=""
  if [ -z "$price" ]; then
    echo "$1 chips, at a price that is not known here (PRICE=USD sets that of a chip for an hour)"
    return
  fi
  [ -z "${SPOT:-}" ] || spot=", and spot costs less"
  [ -n "${PRICE:-}" ] || spot="; a list price that may have changed$spot"
  awk -v chips="$1" -v price="$price" -v spot="$spot" \
    'BEGIN { printf "%d chips x %.2f USD = %.2f USD an hour%s\n", chips, price, chips * price, spot }'
}
