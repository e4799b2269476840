#!/usr/bin/env bash
# Sets up what is missing and passes the tests, linters included.
#
#   bash scripts/test.sh [--fast | --long] [pytest arguments]
#
#   --fast   leaves out the tests that start the whole stack, and the heaviest and slowest of the others
#   --long   takes in those that repeat a start for one more setting
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

processes=2
case "${1:-}" in
  --fast) phases=("not stack and not heavy and not slow") ;;
  --long) phases=("not stack and not heavy" "heavy" "stack") processes=0 ;; # some of those take all the memory
  *) phases=("not stack and not heavy and not long" "heavy and not long" "stack and not long") ;;
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

# The light ones: file by file on two processes of one thread each.
light=(env OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "$python" -m pytest --durations=10 -n "$processes" --dist loadfile)
light+=(-m "${phases[0]}" "$@")
# The others: one after another, since each takes much of the machine.
heavy=(env OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" "$python" -m pytest --durations=10 -m "${phases[1]:-}" "$@")
with_stack=(env OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" "$python" -m pytest --durations=10 -m "${phases[2]:-}" "$@")

# keep COMMAND: run it; the worst status is kept, and no test among these (pytest's 5) is none.
result=5
keep() {
  local status=0
  "$@" || status=$?
  if [[ "$result" == 5 || "$status" != 0 && "$status" != 5 ]]; then result="$status"; fi
}

if [[ ${#phases[@]} == 1 ]]; then
  keep "${light[@]}"
elif [[ $# -gt 0 || "$processes" == 0 ]]; then
  [[ -z "$making" ]] || wait "$making"
  keep "${light[@]}"
  keep "${heavy[@]}"
  keep "${with_stack[@]}"
else
  # All of them: light and heavy ones take up what those with the stack leave of two cores, and are shown after them.
  # Heavy ones and those with the stack wait for each other's memory.
  shown="$(mktemp)"
  export VAOPD_TEST_MEMORY="$shown.memory"
  beside="$making"
  trap 'for each in $beside; do kill "$each" 2>/dev/null || true; done; rm -f "$shown"{,.heavy,.memory}' EXIT
  nice -n 10 "${light[@]}" >"$shown" 2>&1 &
  beside+=" $!" # pytest itself: nice and env become it
  nice -n 10 "${heavy[@]}" >"$shown.heavy" 2>&1 &
  beside+=" $!"
  wait "$making"
  keep "${with_stack[@]}"
  for each in ${beside#"$making"}; do keep wait "$each"; done
  cat "$shown" "$shown.heavy"
fi
exit "$result"
