#!/usr/bin/env bash
# Sets up what is missing and passes the tests, linters included.
#
#   bash scripts/test.sh [--fast | --long] [pytest arguments]
#
#   --fast   leaves out the tests that start the whole stack, and the slowest of the others
#   --long   takes in those that repeat a start for one more setting
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pytest_args=(--durations=10)
case "${1:-}" in
  --fast) pytest_args+=(-m "not stack and not slow") ;;
  --long) ;;
  *) pytest_args+=(-m "not long") ;;
esac
case "${1:-}" in --fast | --long) shift ;; esac

bash scripts/setup.sh --dev
if [[ "${pytest_args[*]}" != *"not stack"* ]]; then
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
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
export PYTHONUNBUFFERED=1

exec "${VAOPD_VENV:-.venv}/bin/python" -m pytest "${pytest_args[@]}" "$@"
