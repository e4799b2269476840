#!/usr/bin/env bash
# Sets up what is missing and passes the tests, linters included.
#
#   bash scripts/test.sh [--fast] [pytest arguments]
#
#   --fast   leaves out the tests that start the whole stack
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pytest_args=(--durations=10)
if [[ "${1:-}" == --fast ]]; then
  shift
  pytest_args+=(-m "not stack")
fi

bash scripts/setup.sh --dev
if [[ "${pytest_args[*]}" != *"not stack"* ]]; then
  bash scripts/setup.sh --eval || echo "test.sh: the evaluation environment cannot be made: its whole-stack test will skip" >&2
fi

# The tests of scripts/slurm run a real Slurm on this machine; without it, and with no right to install it, they skip.
if ! PATH="$PATH:/usr/sbin" command -v munged slurmctld slurmd sbatch >/dev/null; then
  if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >/dev/null ||
      echo "test.sh: slurm-wlm and munge cannot be installed: their tests will skip" >&2
  fi
fi

unset RAY_ADDRESS
export HF_HUB_OFFLINE=1
export TOKENIZERS_PARALLELISM=false
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
export PYTHONUNBUFFERED=1

exec "${VAOPD_VENV:-.venv}/bin/python" -m pytest "${pytest_args[@]}" "$@"
