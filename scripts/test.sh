#!/usr/bin/env bash
# Sets up what is missing and passes the tests, linters included.
#
#   bash scripts/test.sh [--fast | --long] [pytest arguments]
#
#   --fast   leaves out the tests that start the whole stack, and the slowest of the others
#   --long   takes in those that repeat a start for one more setting
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

processes=2
case "${1:-}" in
  --fast) phases=("not stack and not slow") ;;
  --long) phases=("not stack" "stack") processes=0 ;; # some of those take all the memory
  *) phases=("not stack and not long" "stack and not long") ;;
esac
case "${1:-}" in --fast | --long) shift ;; esac

bash scripts/setup.sh --dev
if [[ ${#phases[@]} -gt 1 ]]; then
  bash scripts/setup.sh --eval || echo "test.sh: the evaluation environment cannot be made: its whole-stack test will skip" >&2
fi

# The tests of scripts/slurm run a real Slurm on this machine, those of the report a real browser; without them, and with no
# right to install them, they skip.
packages=()
PATH="$PATH:/usr/sbin" command -v munged slurmctld slurmd sbatch >/dev/null || packages+=(slurm-wlm munge)
command -v chromium chromedriver >/dev/null || packages+=(chromium chromium-driver)
if [[ ${#packages[@]} -gt 0 && "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update >/dev/null || echo "test.sh: apt-get update failed" >&2
  for package in "${packages[@]}"; do
    apt-get install -y --no-install-recommends "$package" >/dev/null ||
      echo "test.sh: $package cannot be installed: its tests will skip" >&2
  done
fi

unset RAY_ADDRESS
export HF_HUB_OFFLINE=1
export TOKENIZERS_PARALLELISM=false
export PYTHONUNBUFFERED=1

python="${VAOPD_VENV:-.venv}/bin/python"

# The tiny models take minutes on one core, once; the tests with the stack want them.
making=""
if [[ ${#phases[@]} -gt 1 && $# == 0 ]]; then
  OMP_NUM_THREADS=2 "$python" -m verl_vaopd.cli tiny --output "${VAOPD_TINY_DIR:-${VAOPD_CACHE:-.cache}/tiny}" &
  making=$!
fi

# Without the stack: file by file on two processes of one thread each.
without_stack=(env OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "$python" -m pytest --durations=10 -n "$processes" --dist loadfile)
without_stack+=(-m "${phases[0]}" "$@")
# With it: one after another, since a start takes most of the machine.
with_stack=(env OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" "$python" -m pytest --durations=10 -m "${phases[1]:-}" "$@")

# keep COMMAND: run it; the worst status is kept, and no test among these (pytest's 5) is none.
result=5
keep() {
  local status=0
  "$@" || status=$?
  if [[ "$result" == 5 || "$status" != 0 && "$status" != 5 ]]; then result="$status"; fi
}

if [[ ${#phases[@]} == 1 ]]; then
  keep "${without_stack[@]}"
elif [[ $# -gt 0 || "$processes" == 0 ]]; then
  [[ -z "$making" ]] || wait "$making"
  keep "${without_stack[@]}"
  keep "${with_stack[@]}"
else
  # All of them: those without the stack take up what the others leave of two cores, and are shown after them.
  shown="$(mktemp)"
  nice -n 10 "${without_stack[@]}" >"$shown" 2>&1 &
  beside=$! # pytest itself: nice and env become it
  trap 'kill "$beside" 2>/dev/null || true; rm -f "$shown"' EXIT
  wait "$making"
  keep "${with_stack[@]}"
  keep wait "$beside"
  cat "$shown"
fi
exit "$result"
