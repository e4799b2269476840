#!/usr/bin/env bash
# Makes .venv with exact pins and this project in it. A second run finds its stamp and returns at once.
#
#   bash scripts/setup.sh [--cpu | --gpu] [--dev]
#   bash scripts/setup.sh --eval
#   bash scripts/setup.sh [--cpu | --gpu] --check [options of verl-vaopd doctor]
#
#   --cpu, --gpu  the set to install; without either: the set .venv has, else gpu where nvidia-smi lists a device
#   --check       install nothing: look whether this machine is fit, as verl-vaopd doctor does when it is installed
#   --dev         also the test and lint tools
#   --eval        the toolkit of `verl-vaopd evaluate` into an environment of its own: its pins and hydra's exclude each other
#
#   PYTHON        the interpreter to use; default: the first of python3.11, python3.12, python3, python that is 3.11 or 3.12
#   VAOPD_VENV    where the environment goes; default .venv, or .venv-cpu, .venv-gpu where .venv holds the other set
#   VAOPD_EVAL_VENV  where that of --eval goes; default .venv-eval
#
# What the installers say goes to setup.log in the environment. A failure shows the end of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONHOME PYTHONPATH

uv_pin="uv==0.13.9"
declare -A disk_gb=([cpu]=12 [gpu]=18 [eval]=12) # measured: 7, 11 and 6, beside what is downloaded

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  say "error: $1"
  say "remedy: $2"
  exit 1
}

variant=""
dev=""
check=""
while [[ $# -gt 0 && -z "$check" ]]; do
  case "$1" in
    --cpu | --gpu | --eval) variant="${1#--}" ;;
    --dev) dev=yes ;;
    --check) check=yes ;;
    -h | --help) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) die "unknown argument '$1'" "bash scripts/setup.sh [--cpu | --gpu] [--dev] or --eval" ;;
  esac
  shift
done

source scripts/venv.sh
venv="${VAOPD_VENV:-.venv}"
if [[ "$variant" == eval ]]; then
  [[ -z "$dev" ]] || die "--eval takes no --dev" "run the two one after the other"
  venv="${VAOPD_EVAL_VENV:-.venv-eval}"
elif [[ -n "$variant" ]]; then
  venv="$(venv_of "$variant")"
fi
[[ "$venv" == /* ]] || venv="$PWD/$venv"
python="$venv/bin/python"

# Prints 3.11 or 3.12 if the interpreter runs and is one of them: a name on PATH may be a shim that runs nothing.
python_version() {
  "$1" -c 'import sys; v = "%d.%d" % sys.version_info[:2]; v in ("3.11", "3.12") and print(v)' 2>/dev/null || true
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3 python; do
    if [[ -n "$(python_version "$candidate")" ]]; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
    [[ -z "${PYTHON:-}" ]] || die "PYTHON=$PYTHON is not a working Python 3.11 or 3.12" "unset PYTHON, or name another one"
  done
  die "no Python 3.11 or 3.12 on PATH" \
    "install one (apt install python3.11 python3.11-venv, or uv python install 3.11), or set PYTHON=/path/to/python3.11"
}

has_gpu() { command -v nvidia-smi >/dev/null && [[ -n "$(nvidia-smi -L 2>/dev/null)" ]]; }

if [[ -n "$check" ]]; then
  if [[ ! -x "$python" ]]; then python="$(find_python)"; fi
  exec "$python" -B -m verl_vaopd.cli doctor "--${variant:-cpu}" --only machine --venv "$venv" "$@"
fi

# One set-up at a time; the lock goes when this process ends.
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
if ! flock -n 9; then
  say "waiting for another set-up of $venv"
  flock 9
fi

# .vaopd-kind holds what the environment was made for, such as "cpu 3.11". It is written before anything is installed.
kind_file="$venv/.vaopd-kind"
if [[ -f "$kind_file" ]]; then
  read -r has_variant has_version <"$kind_file" || true
  variant="${variant:-$has_variant}"
  version="$has_version"
  if [[ -n "${PYTHON:-}" ]]; then
    version="$(python_version "$PYTHON")"
  fi
  [[ "$variant $version" == "$has_variant $has_version" ]] ||
    die "$venv holds the $has_variant set for Python $has_version, not $variant for Python ${version:-of PYTHON=$PYTHON}" \
      "remove it, or put the other one elsewhere with VAOPD_VENV=DIR"
elif [[ -e "$venv" ]]; then
  die "$venv was not made by this script" "move it away, or set VAOPD_VENV=DIR"
else
  if [[ -z "$variant" ]]; then
    if has_gpu; then variant=gpu; else variant=cpu; fi
  fi
fi

stamp() { printf '%s/.vaopd-%s' "$venv" "$({ cat "$kind_file" pyproject.toml "$@"; echo "$PWD"; } | sha256sum | cut -c1-16)"; }

log="$venv/setup.log"
quietly() { "$@" >>"$log" 2>&1; }
# As quietly, but the lines by which uv and pip end a stage are shown.
by_stages() {
  "$@" 2>&1 | tee -a "$log" | while IFS= read -r line; do
    case "$line" in Resolved* | Prepared* | "Installed "* | "Installing collected"* | "Bytecode compiled"*) say "  ${line%%:*}" ;; esac
  done
}
failed() {
  tail -n 30 "$log" >&2
  die "$1: above is the end of $log" "$2"
}

wanted=("requirements/$variant.txt")
if [[ -f "$kind_file" && -x "$python" && -f "$(stamp "${wanted[@]}")" ]]; then
  [[ -n "$dev" && ! -f "$(stamp "${wanted[@]}" requirements/dev.txt)" ]] || exit 0
fi

# No environment yet, or one of ours whose interpreter is gone: make it.
if [[ ! -x "$python" || -z "$(python_version "$python")" ]]; then
  free_gb=$(($(df -Pk "$(dirname "$venv")" | awk 'NR == 2 { print $4 }') / 1024 / 1024))
  needed_gb="${disk_gb[$variant]}"
  ((free_gb >= needed_gb)) || die "$free_gb GB free in $(dirname "$venv"), about $needed_gb GB needed" \
    "free some space, or set VAOPD_VENV=DIR on a larger disk"
  base="$(find_python)"
  say "making $venv: the $variant set for Python $(python_version "$base") ($base)"
  rm -rf "$venv"
  mkdir "$venv"
  echo "$variant $(python_version "$base")" >"$kind_file"
  if command -v uv >/dev/null; then
    quietly uv venv --allow-existing --no-project --python "$base" "$venv" ||
      failed "uv cannot make an environment of $base" "mend what uv says, and remove $venv"
  else
    quietly "$base" -m venv "$venv" || failed "$base cannot make a virtual environment" \
      "install its venv module (Debian, Ubuntu: apt install python$(python_version "$base")-venv) or uv, and remove $venv"
  fi
fi

# uv where there is one: ten times as fast as pip. Compiled here once: a dozen processes of a run import these packages, and
# under PYTHONDONTWRITEBYTECODE each would compile them again.
export UV_COMPILE_BYTECODE=1
if command -v uv >/dev/null; then
  installer=(uv pip install --python "$python")
elif [[ -x "$venv/bin/uv" ]] || quietly "$python" -m pip install "$uv_pin"; then
  installer=("$venv/bin/uv" pip install --python "$python")
else
  say "uv cannot be installed, going on with pip: slower"
  installer=("$python" -m pip install)
fi

if [[ -n "$dev" ]]; then
  wanted+=(requirements/dev.txt)
fi
# Other pins, or another checkout, find their stamp gone and install again: an environment runs the code installed last.
rm -f "$venv"/.vaopd-????????????????
say "installing ${wanted[*]}, a few minutes; what the installer says: $log"
by_stages "${installer[@]}" --no-deps "${wanted[@]/#/--requirement=}" ||
  failed "the packages could not be installed" \
    "check the network, the proxy or the mirror of the package index, and the free disk; then run this again, it goes on from here"
quietly "${installer[@]}" --no-deps --no-build-isolation --editable . ||
  failed "verl_vaopd itself could not be installed" "mend what the installer says; then run this again"

touch "$(stamp "requirements/$variant.txt")"
if [[ -n "$dev" ]]; then
  touch "$(stamp "${wanted[@]}")"
fi
say "ready: $venv"
