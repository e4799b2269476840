#!/usr/bin/env bash
# The long tests: every part of a run killed in turn, 500 steps without growth, faults in whole runs.
#
#   bash scripts/soak.sh [--steps N] [pytest arguments]
#
#   --steps N   of the long run, default 500
#   SOAK_DIR    where figure and tables go, default outputs/soak; docs/soak holds the last ones that were committed
#
# Time: about 40 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

steps=500
if [[ "${1:-}" == --steps ]]; then
  [[ "${2:-}" =~ ^[1-9][0-9]+$ ]] || { echo "soak: --steps wants a number, 10 or more, got '${2:-}'" >&2 && exit 2; }
  steps="$2"
  shift 2
fi
export VAOPD_SOAK_STEPS="$steps" VAOPD_SOAK_DIR="${SOAK_DIR:-$PWD/outputs/soak}"
bash scripts/test.sh --long -m long "$@"
echo "soak: figure and tables are in $VAOPD_SOAK_DIR"
