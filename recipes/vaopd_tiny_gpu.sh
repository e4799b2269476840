#!/usr/bin/env bash
# The tiny pipeline on real devices: bf16, NCCL, CUDA IPC, sleep and wake-up, a checkpoint and the export, in 8 steps.
#
# Reproduces: nothing of the paper; it is the first run on a new machine (docs/first_gpu_run.md).
# Runs on:    1 to 8 GPUs of one node, as N_GPUS_PER_NODE says (default 1). Has not been run on a GPU so far.
#
#   bash recipes/vaopd_tiny_gpu.sh [--dry-run] [--restarts N] [hydra overrides]
#
#   --dry-run     compose and check the config, print it; run nothing. Needs no GPU
#   --restarts N  when the run fails or is killed, start again from its last checkpoint, N times in all
#
# It looks at the machine first (verl-vaopd doctor --gpu), unless DOCTOR=no.
# RUN_DIR, VAOPD_CACHE, VAOPD_TINY_DIR and VAOPD_VENV move the run, the caches, the models and data, and the environment.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
source scripts/venv.sh

N_GPUS_PER_NODE="${N_GPUS_PER_NODE:-1}"
[[ "$N_GPUS_PER_NODE" =~ ^[1-8]$ ]] || refuse "N_GPUS_PER_NODE=$N_GPUS_PER_NODE: must be from 1 to 8"
TINY="${VAOPD_TINY_DIR:-${VAOPD_CACHE:-$root/.cache}/tiny}"
RUN_DIR="${RUN_DIR:-$root/outputs/vaopd_tiny_gpu/$(date +%Y%m%d-%H%M%S)}"
refuse_references TINY RUN_DIR
sort_arguments "$@"

export HF_HUB_OFFLINE=1
export TOKENIZERS_PARALLELISM=false
export PYTHONUNBUFFERED=1

arguments=(
  --config-name tiny_gpu
  actor_rollout_ref.model.path="$(quoted "$TINY/student")"
  vaopd.teacher.path="$(quoted "$TINY/teacher")"
  data.train_files="$(quoted "$TINY/data/train.parquet")"
  data.val_files="$(quoted "$TINY/data/validation.parquet")"
  vaopd.output_dir="$(quoted "$RUN_DIR")"
  trainer.n_gpus_per_node="$N_GPUS_PER_NODE"
  "${overrides[@]}"
)
if [[ -n "${VAOPD_PRINT_ARGUMENTS:-}" ]]; then # for programs that want the config
  printf '%s\n' "${arguments[@]}"
  exit
fi
if [[ -n "$dry_run" ]]; then
  prepare_dry_run
  exec "$VAOPD_VENV/bin/verl-vaopd" train --dry-run "${arguments[@]}"
fi
VAOPD_VENV="$(venv_of gpu)"
vaopd="$VAOPD_VENV/bin/verl-vaopd"
export VAOPD_VENV
look bash scripts/setup.sh --gpu --check --gpus "$N_GPUS_PER_NODE" --models "$TINY/student" --disk 2 --output "$RUN_DIR"
bash scripts/setup.sh --gpu
look "$vaopd" doctor --gpu --only environment
"$vaopd" tiny --output "$TINY"
exec "$vaopd" train "${options[@]}" "${arguments[@]}"
