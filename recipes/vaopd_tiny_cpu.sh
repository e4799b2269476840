#!/usr/bin/env bash
# VA-OPD end to end on models of about 1 M parameters and synthetic geometry: the code path of the GPU recipes.
#
# Reproduces: the setting of the paper, a student that is fluent but reads images badly. Not a figure of the paper.
# Runs on:    any Linux machine with 2 cores and 16 GB of memory; no GPU is used.
# Time and score to expect: see "What the demo prints" in README.md.
#
#   bash recipes/vaopd_tiny_cpu.sh [--dry-run] [--restarts N] [hydra overrides], for example trainer.total_training_steps=4
#
#   --dry-run     compose and check the config, print it; run nothing
#   --restarts N  when the run fails or is killed, start again from its last checkpoint, N times in all
#
# TASK=perimeter trains on polygons whose answers have a heavy tail of lengths (30 to 225 tokens), with models of its own.
# TASK=dilution has the same figures read amid WORDS (0, 40 or 160, the default) words (docs/dilution), and models of its own.
# RUN_DIR, VAOPD_CACHE, VAOPD_TINY_DIR and VAOPD_VENV move the run, the caches, the models and data, and the environment.
# On a Ray cluster (RAY_ADDRESS) NNODES and N_GPUS_PER_NODE say how many nodes, and how many processes on each, train.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
source scripts/venv.sh

TASK="${TASK:-figures}"
refuse_unknown_task
words="" # as the files of data have it
case "$TASK" in
  figures) folder=tiny LENGTHS=() ;;
  perimeter) folder=tiny_perimeter LENGTHS=(data.max_response_length=256 actor_rollout_ref.rollout.max_model_len=512) ;;
  dilution)
    folder=tiny_dilution words="_${WORDS:-160}" answer=$((${WORDS:-160} + 56)) # tokens, as the study has it
    LENGTHS=(data.max_response_length="$answer" actor_rollout_ref.rollout.max_model_len="$((256 + answer))")
    ;;
esac
TINY="${VAOPD_TINY_DIR:-${VAOPD_CACHE:-$root/.cache}/$folder}"
RUN_DIR="${RUN_DIR:-$root/outputs/vaopd_tiny_cpu/$(date +%Y%m%d-%H%M%S)}"
VAOPD_VENV="$(venv_of cpu)"
vaopd="$VAOPD_VENV/bin/verl-vaopd"
export VAOPD_VENV
refuse_references TINY RUN_DIR
sort_arguments "$@"

export HF_HUB_OFFLINE=1
export TOKENIZERS_PARALLELISM=false
export PYTHONUNBUFFERED=1

MODELS=(
  actor_rollout_ref.model.path="$(quoted "$TINY/student")"
  vaopd.teacher.path="$(quoted "$TINY/teacher")"
)
DATA=(
  data.train_files="$(quoted "$TINY/data/train$words.parquet")"
  data.val_files="$(quoted "$TINY/data/validation$words.parquet")"
)
OUTPUT=(
  vaopd.output_dir="$(quoted "$RUN_DIR")"
)
CLUSTER=(
  trainer.nnodes="${NNODES:-1}"
  trainer.n_gpus_per_node="${N_GPUS_PER_NODE:-1}"
)

arguments=(--config-name tiny_cpu "${MODELS[@]}" "${DATA[@]}" "${LENGTHS[@]}" "${OUTPUT[@]}" "${CLUSTER[@]}" "${overrides[@]}")
if [[ -n "${VAOPD_PRINT_ARGUMENTS:-}" ]]; then # for programs that want the config
  printf '%s\n' "${arguments[@]}"
  exit
fi
bash scripts/setup.sh --cpu
if [[ -n "$dry_run" ]]; then exec "$vaopd" train --dry-run "${arguments[@]}"; fi
"$vaopd" tiny --task "$TASK" --output "$TINY"
case " ${overrides[*]} " in *" vaopd.method=offpolicy_kd "* | *" vaopd.method=cot_sft "*) "$vaopd" answers "${arguments[@]}" ;; esac
exec "$vaopd" train "${options[@]}" "${arguments[@]}"
