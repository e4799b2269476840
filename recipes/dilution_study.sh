#!/usr/bin/env bash
# When does weighing tokens by visual advantage help? Many short runs on the diluted tiny task: the reading of a figure amid
# 0, 40 or 160 words of lasting KL; Standard OPD, VA-OPD, groups by mass, an oracle, random tokens. Then one report.
#
# Reproduces: no figure of the paper; the questions of docs/dilution/plan.md.
# Runs on:    any Linux machine with 2 cores and 8 GB of memory; no GPU is used, neither Ray nor vLLM.
# Time:       docs/dilution/README.md has what was measured; it shows what is left after each run.
#
#   bash recipes/dilution_study.sh [--seeds N] [--parallel N] [--cells CELL ...] [--arms ARM ...] [--dry-run]
#   bash recipes/dilution_study.sh --stack [--seeds N] [--parallel N] [--dry-run] [--restarts N] [hydra overrides]
#
#   --stack         instead, with Ray and vLLM: Standard OPD, VA-OPD with either score, with p_v matched, by mass, cell frozen-2e-5-160;
#                   it is recipes/replicate_tiny_cpu.sh --runs dilution, whose --help has the options, defaults too
#   --seeds N       seeds 1 to N of figures and sampling, default 3; all runs of a seed come before the next seed's
#   --parallel N    processes, default 1; each keeps one core busy and takes 2 GB of memory
#   --cells ...     REGIME-RATE-WORDS each, as frozen-2e-5-160: what is trained (frozen: the language model; lora: adapters of
#                   rank 8 on it; all), the learning rate, the words. Rate own, as frozen-own-160: of --rates (default 2e-5 1e-4
#                   5e-4) the one at which an arm gains most, tried once each on figures that count for nothing else
#   --arms ...      `python -m verl_vaopd.study --help` names them, and has further options, taken here too; grpo and
#                   grpo_va, which learn from rewards, and self and self_va (docs/methods.md) are done only where they are named
#   --dry-run       name the runs, do none
#
#   STUDY_DIR       default outputs/dilution_study (outputs/dilution_tiny_cpu); runs that are finished there are not done again
#   VAOPD_CACHE, VAOPD_DILUTION_DIR and VAOPD_VENV move the caches, the models and data, and the environment; so there is
#   neither --output nor --models
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh"
refuse_to_print "many runs of tiny models, none of them a recipe's: plan another recipe"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

stack="" options=()
for argument in "$@"; do
  case "$argument" in
    --output | --output=*) refuse "--output: set STUDY_DIR=DIR instead, where the runs and their report go" ;;
    --models | --models=*) refuse "--models: set VAOPD_DILUTION_DIR=DIR instead, where the models and data are, or go" ;;
    --stack) stack=yes ;;
    *) options+=("$argument") ;;
  esac
done
if [[ -n "$stack" ]]; then
  [[ -z "${STUDY_DIR:-}" ]] || export REPLICATION_DIR="$STUDY_DIR"
  [[ -z "${VAOPD_DILUTION_DIR:-}" ]] || export VAOPD_TINY_DIR="$VAOPD_DILUTION_DIR"
  exec bash recipes/replicate_tiny_cpu.sh --runs dilution "${options[@]}"
fi
source scripts/venv.sh

TINY="${VAOPD_DILUTION_DIR:-${VAOPD_CACHE:-$root/.cache}/tiny_dilution}"
STUDY_DIR="${STUDY_DIR:-$root/outputs/dilution_study}"
VAOPD_VENV="$(venv_of cpu)"
export VAOPD_VENV HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1

figures=validation previous="" # which of them are reported: those that --figures names
for argument in "${options[@]}"; do
  if [[ "$previous" == --figures || "$argument" == --figures=* ]]; then figures="${argument#--figures=}"; fi
  previous="$argument"
done
study=("$VAOPD_VENV/bin/python" -m verl_vaopd.study --models "$TINY" --output "$STUDY_DIR" "${options[@]}")
bash scripts/setup.sh --cpu
case " $* " in *" --dry-run "*) exec "${study[@]}" ;; esac
"${study[@]}" --dry-run >/dev/null # refuses what does not fit before the models are made, which takes minutes
"$VAOPD_VENV/bin/verl-vaopd" tiny --task dilution --output "$TINY"
"${study[@]}"
mapfile -t runs < <(find "$STUDY_DIR/$figures" -name summary.json -printf '%h\n' | sort)
"$VAOPD_VENV/bin/verl-vaopd" report "${runs[@]}" --output "$STUDY_DIR/report"
