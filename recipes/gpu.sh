# shellcheck shell=bash
# What the GPU recipes share; a recipe sources this, then calls `launch` with its settings and its own arguments.
#
#   bash recipes/NAME.sh [--dry-run] [hydra overrides]
#
#   --dry-run         compose and check the whole config, print it, the commands and the plan; run nothing. Needs no GPU
#
#   NNODES            nodes, default 1; above 1 a Ray cluster must be there (RAY_ADDRESS; scripts/slurm/submit.sh starts one)
#   N_GPUS_PER_NODE   default 8
#   RUN_DIR           the run's folder, default outputs/NAME: the same command goes on from its last checkpoint
#   DATA_DIR          the data's folder, default data/
#   GPU               what --dry-run plans for, default a100-80g (verl-vaopd plan --help lists them)
#   VAOPD_VENV        the environment, default .venv
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
recipe="$(basename "${BASH_SOURCE[1]}" .sh)"
cd "$root" || exit

NNODES="${NNODES:-1}"
N_GPUS_PER_NODE="${N_GPUS_PER_NODE:-8}"
RUN_DIR="${RUN_DIR:-$root/outputs/$recipe}"
DATA_DIR="${DATA_DIR:-$root/data}"
vaopd="${VAOPD_VENV:-.venv}/bin/verl-vaopd"

export TOKENIZERS_PARALLELISM=false
export PYTHONUNBUFFERED=1

# launch STUDENT TEACHER DATASET [arguments of verl-vaopd train]
launch() {
  local student="$1" teacher="$2" dataset="$3" dry_run="" argument method=vaopd overrides=()
  shift 3
  local arguments=(
    --config-name vaopd_trainer
    actor_rollout_ref.model.path="$student"
    vaopd.teacher.path="$teacher"
    data.train_files="$DATA_DIR/$dataset/train.parquet"
    data.val_files="$DATA_DIR/$dataset/validation.parquet"
    trainer.nnodes="$NNODES"
    trainer.n_gpus_per_node="$N_GPUS_PER_NODE"
    trainer.experiment_name="$recipe"
    vaopd.output_dir="$RUN_DIR"
  )
  for argument in "$@"; do
    if [[ "$argument" == --dry-run ]]; then dry_run=yes; else overrides+=("$argument"); fi
    if [[ "$argument" == vaopd.method=* ]]; then method="${argument#*=}"; fi
  done
  arguments+=("${overrides[@]}")
  if [[ -n "${VAOPD_PRINT_ARGUMENTS:-}" ]]; then # for programs that want the config
    printf '%s\n' "${arguments[@]}"
    return
  fi
  local prepare_data=("$vaopd" data "$dataset" --output "$DATA_DIR/$dataset")
  local prepare_models=("${VAOPD_VENV:-.venv}/bin/hf" download)
  if [[ -n "$dry_run" ]]; then
    bash scripts/setup.sh # whichever set fits this machine
    printf 'commands:\n  bash scripts/setup.sh --gpu\n'
    printf '  %s\n' "${prepare_data[*]}" "${prepare_models[*]} $student" "${prepare_models[*]} $teacher"
    case "$method" in offpolicy_kd | cot_sft) printf '  %s answers, with the arguments of train\n' "$vaopd" ;; esac
    printf '  %s train' "$vaopd"
    printf ' %q' "${arguments[@]}"
    printf '\n\n'
    "$vaopd" train --dry-run "${arguments[@]}"
    case "$method" in
      opd | vaopd | gkd)
        printf '\nplan:\n'
        "$vaopd" plan "recipes/$recipe.sh" --gpu "${GPU:-a100-80g}" "${overrides[@]}"
        ;;
      *) printf '\nplan: made for opd, vaopd and gkd only\n' ;;
    esac
    return
  fi
  bash scripts/setup.sh --gpu
  "${prepare_data[@]}"
  local model
  for model in "$student" "$teacher"; do
    [[ -d "$model" ]] || "${prepare_models[@]}" "$model" >/dev/null
  done
  case "$method" in offpolicy_kd | cot_sft) "$vaopd" answers "${arguments[@]}" ;; esac
  exec "$vaopd" train "${arguments[@]}"
}
