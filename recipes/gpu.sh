# shellcheck shell=bash
# What the GPU recipes share; a recipe sources this, then calls `launch` with its settings and its own arguments.
#
#   bash recipes/NAME.sh [--dry-run] [--restarts N] [hydra overrides]
#
#   --dry-run         compose and check the whole config, print it, the commands and the plan; run nothing. Needs no GPU
#   --restarts N      when the run fails or is killed, start again from its last checkpoint, N times in all
#
#   NNODES            nodes, default 1; above 1 a Ray cluster must be there (RAY_ADDRESS; scripts/slurm/submit.sh starts one)
#   N_GPUS_PER_NODE   default 8
#   GPU_MEMORY_GB     what each GPU is to have, default 80: this machine is looked at before anything is fetched
#   DOCTOR            no: do not look at this machine (verl-vaopd doctor --gpu); with RAY_ADDRESS it is not looked at
#   RUN_DIR           the run's folder, default outputs/NAME: the same command goes on from its last checkpoint
#   DATA_DIR          the data's folder, default data/
#   GPU               what --dry-run plans for, default a100-80g (verl-vaopd plan --help lists them)
#   VAOPD_VENV        the environment; default .venv, or .venv-gpu where .venv holds the CPU set
#   VAOPD_DRY_VENV    that of --dry-run; default: the same if it is there, else .venv, else a CPU set in .venv-dry
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
script="$(realpath "${BASH_SOURCE[-1]}")"
recipe="$(basename "$script" .sh)"
cd "$root" || exit
source scripts/venv.sh

NNODES="${NNODES:-1}"
N_GPUS_PER_NODE="${N_GPUS_PER_NODE:-8}"
RUN_DIR="${RUN_DIR:-$root/outputs/$recipe}"
DATA_DIR="${DATA_DIR:-$root/data}"
typed=("$@")

export TOKENIZERS_PARALLELISM=false
export PYTHONUNBUFFERED=1

show() { # a command, as it would be typed
  printf ' '
  printf ' %q' "$@"
  printf '\n'
}

# launch STUDENT TEACHER DATASET [arguments of verl-vaopd train]
launch() {
  local student="$1" teacher="$2" dataset="$3" argument method=vaopd
  local dry_run options overrides
  shift 3
  refuse_references RUN_DIR DATA_DIR
  sort_arguments "${typed[@]}"
  local own_overrides=("${overrides[@]}") # the recipe's are what it gives to itself
  sort_arguments "$@"
  local arguments=(
    --config-name vaopd_trainer
    actor_rollout_ref.model.path="$(quoted "$student")"
    vaopd.teacher.path="$(quoted "$teacher")"
    data.train_files="$(quoted "$DATA_DIR/$dataset/train.parquet")"
    data.val_files="$(quoted "$DATA_DIR/$dataset/validation.parquet")"
    trainer.nnodes="$NNODES"
    trainer.n_gpus_per_node="$N_GPUS_PER_NODE"
    trainer.experiment_name="$(quoted "$recipe")"
    vaopd.output_dir="$(quoted "$RUN_DIR")"
    "${overrides[@]}"
  )
  if [[ -n "${VAOPD_PRINT_ARGUMENTS:-}" ]]; then # for programs that want the config
    printf '%s\n' "${arguments[@]}"
    return
  fi
  for argument in "${overrides[@]}"; do # a model that is named there is the one to fetch
    case "$argument" in
      vaopd.method=*) method="${argument#*=}" ;;
      actor_rollout_ref.model.path=*) student="$(tr -d "\"'" <<<"${argument#*=}")" ;;
      vaopd.teacher.path=*) teacher="$(tr -d "\"'" <<<"${argument#*=}")" ;;
    esac
  done
  # shellcheck disable=SC2016 # hydra's reference: the teacher is the student
  [[ "$teacher" != '${actor_rollout_ref.model.path}' ]] || teacher="$student"
  local models=("$student")
  [[ "$teacher" == "$student" ]] || models+=("$teacher")
  VAOPD_VENV="$(venv_of gpu)"
  local vaopd="$VAOPD_VENV/bin/verl-vaopd"
  local look_at_machine=(bash scripts/setup.sh --gpu --check --gpus "$N_GPUS_PER_NODE" --gpu-memory "${GPU_MEMORY_GB:-80}"
    --models "${models[@]}" --output "$RUN_DIR")
  local prepare_data=("$vaopd" data "$dataset" --output "$DATA_DIR/$dataset")
  local model prepare_models=("$VAOPD_VENV/bin/hf" download)
  if [[ -n "$dry_run" ]]; then
    prepare_dry_run
    echo commands:
    show "${look_at_machine[@]}"
    show bash scripts/setup.sh --gpu
    show "${prepare_data[@]}"
    for model in "${models[@]}"; do show "${prepare_models[@]}" "$model"; done
    case "$method" in offpolicy_kd | cot_sft) echo "  $vaopd answers, with the overrides of train" ;; esac
    show "$vaopd" train "${options[@]}" "${arguments[@]}"
    echo
    "$VAOPD_VENV/bin/verl-vaopd" train --dry-run "${arguments[@]}"
    printf '\nplan:\n'
    "$VAOPD_VENV/bin/verl-vaopd" plan "$script" --gpu "${GPU:-a100-80g}" "${own_overrides[@]}"
    return
  fi
  ulimit -Sn "$(ulimit -Hn)" || true # Ray opens many files
  look "${look_at_machine[@]}"
  export VAOPD_VENV
  bash scripts/setup.sh --gpu
  look "$vaopd" doctor --gpu --only environment
  "${prepare_data[@]}"
  for model in "${models[@]}"; do
    [[ -d "$model" ]] || "${prepare_models[@]}" "$model" >/dev/null
  done
  case "$method" in offpolicy_kd | cot_sft) "$vaopd" answers "${arguments[@]}" ;; esac
  exec "$vaopd" train "${options[@]}" "${arguments[@]}"
}
