# shellcheck shell=bash
# What the recipes of Table 1, and those of methods beyond it, share: each is the primary setting (recipes/vaopd_8b_2b_geo3k.sh) with another objective.
#
#   bash recipes/table1/METHOD.sh [--tiny] [--dry-run] [--restarts N] [hydra overrides]
#
#   --tiny        on tiny models without a GPU instead (recipes/vaopd_tiny_cpu.sh)
#   --dry-run     compose and check the config, print it and the commands; run nothing
#
#   RUN_DIR       the run's folder, default outputs/table1/METHOD (outputs/table1_tiny/METHOD)
#   ANSWERS_DIR   the teacher's answers, default outputs/table1/answers (outputs/table1_tiny/answers); made once by the
#                 first recipe that learns from them
#
# The other variables of those two recipes hold as well.
source "$(dirname "${BASH_SOURCE[0]}")/../shared.sh"

run_method() {
  local method="$1" recipe=vaopd_8b_2b_geo3k argument arguments=()
  local group="${GROUP:-table1}" name="${NAME:-$1}" # a recipe beyond Table 1 sets them
  local recipes
  recipes="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  shift
  for argument in "$@"; do
    if [[ "$argument" == --tiny ]]; then recipe=vaopd_tiny_cpu group="${group}_tiny"; else arguments+=("$argument"); fi
  done
  local outputs="${recipes%/*}/outputs/$group"
  export RUN_DIR="${RUN_DIR:-$outputs/$name}"
  ANSWERS_DIR="${ANSWERS_DIR:-$outputs/answers}"
  refuse_references RUN_DIR ANSWERS_DIR
  case "$method" in offpolicy_kd | cot_sft) arguments=(vaopd.answers="$(quoted "$ANSWERS_DIR")" "${arguments[@]}") ;; esac
  exec bash "$recipes/$recipe.sh" \
    vaopd.method="$method" \
    trainer.experiment_name="${group}_$name" \
    "${arguments[@]}"
}
