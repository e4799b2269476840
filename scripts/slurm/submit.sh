#!/usr/bin/env bash
# Submits a recipe to Slurm: a Ray cluster over the allocation and the recipe on it.
#
#   bash scripts/slurm/submit.sh RECIPE [sbatch options] [-- hydra overrides]
#   bash scripts/slurm/submit.sh recipes/vaopd_8b_2b_geo3k.sh --nodes=2 --gpus-per-node=8 --time=24:00:00
#
# Before its time limit, and when it is cancelled, the run saves a checkpoint after its current step. At the time limit the
# job is queued again and goes on; a cancelled one goes on when it is submitted again with the same RUN_DIR.
#
#   RUN_DIR        the run's folder, on a file system that all nodes share; default outputs/<recipe>
#   STOP_SECONDS   before the time limit, default 900: a step, a checkpoint and some reserve must fit in
#   RAY_NODES_SECONDS  how long to wait for all nodes, default 600
#   NODE_ADDRESS   the first node's address, at which Ray's head listens; default: the one by which it reaches the second
#                  node (Slurm's NodeAddr, else the name); a job of one node keeps to loopback
#   CPU_JOB        yes: a job without GPUs. It is refused unless it says so, its recipe is *_cpu.sh, or gets --tiny
#   DOCTOR         no: do not look at the nodes before Ray starts (verl-vaopd doctor --gpu)
#
# A plain scancel kills what is left after the cluster's KillWait (30 s by default): where a step takes longer, cancel with
# scancel --batch --signal=TERM JOB, which waits for the checkpoint.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
case "${1:-}" in
  "") usage >&2 && exit 2 ;;
  -h | --help) usage && exit ;;
esac
if [[ ! -f "$1" ]]; then
  echo "submit: no recipe $1; there are: $(cd "$root" && echo recipes/vaopd_*.sh)" >&2
  exit 2
fi
command -v sbatch >/dev/null || { echo "submit: no sbatch here: run this on a login node of a Slurm cluster" >&2 && exit 2; }
recipe="$(realpath "$1")"
name="$(basename "$recipe" .sh)"
shift

options=()
while [[ $# -gt 0 && "$1" != -- ]]; do
  options+=("$1")
  shift
done
shift || true # the --

RUN_DIR="$(realpath -m "${RUN_DIR:-$root/outputs/$name}")"
export RUN_DIR
mkdir -p "$RUN_DIR"
job="$(sbatch --parsable --job-name="$name" --output="$RUN_DIR/slurm-%j.log" --open-mode=append --requeue \
  --signal="B:USR1@${STOP_SECONDS:-900}" --nodes=1 --ntasks-per-node=1 --exclusive --mem=0 "${options[@]}" \
  "$root/scripts/slurm/job.sh" "$root" "$recipe" "$@")"
echo "job ${job%%;*}: $name"
echo "  log:   $RUN_DIR/slurm-${job%%;*}.log"
echo "  state: squeue --job ${job%%;*}"
