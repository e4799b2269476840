#!/usr/bin/env bash
# The paper's comparisons on tiny models: the methods of Table 1, the masking experiment (Section 2.2), the ablation
# (Section 4.4) and the distribution score, each over several seeds; then the table and all figures. Or, of the same form, what
# older tokens do: steps that wait for their longest answer against partial rollouts. Or what dilution does, on the whole stack.
#
# Reproduces: the questions, not the figures, of the paper; the setting is that of recipes/vaopd_tiny_cpu.sh, untouched.
# Runs on:    any Linux machine with 2 cores and 16 GB of memory; no GPU is used.
# Time:       13 runs a seed (6 with --runs staleness, 5 with --runs dilution), about an hour on 2 cores with --parallel 2; it
#             shows what is left after each.
#
#   bash recipes/replicate_tiny_cpu.sh [--runs paper|staleness|dilution] [--seeds N] [--parallel N] [--dry-run] [--restarts N]
#                                      [hydra overrides]
#
#   --runs NAME       paper (default); or staleness: Standard OPD and VA-OPD, each with docs/partial_rollouts.md's modes, on
#                     the perimeter task, whose answers have a heavy tail of lengths; or dilution: cell frozen-2e-5-160 of
#                     recipes/dilution_study.sh, whose --stack it is. It has no validation: at its end each student is
#                     measured as the study does (RUN_DIR/visual_nll.json), and there is no report
#   --seeds N         seeds 1 to N of data order and sampling, default 5; all runs of a seed come before the next seed's
#   --parallel N      runs at a time, default 1; each keeps one core busy and takes 7 GB of memory
#   --dry-run         print the commands, run nothing
#   --restarts N      for every run, as are the overrides: start it again from its last checkpoint when it fails
#
#   REPLICATION_DIR   default outputs/replicate_tiny_cpu (outputs/staleness_tiny_cpu, outputs/dilution_tiny_cpu); runs that are
#                     finished there are not done again, one that was stopped goes on from its last checkpoint
#   TASK, WORDS, VAOPD_CACHE, VAOPD_TINY_DIR and VAOPD_VENV as in recipes/vaopd_tiny_cpu.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh"
refuse_to_print "many runs: plan one of the recipes that it calls (--dry-run names them)"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

PAPER=( # name, recipe under table1/, what it differs in
  "base base"
  "cot_sft cot_sft"
  "offpolicy_kd offpolicy_kd"
  "grpo grpo"
  "papo papo"
  "opd opd"
  "opd_mask_random opd vaopd.mask_tokens=random"
  "opd_mask_lowest_va opd vaopd.mask_tokens=lowest_va"
  "opd_mask_highest_va opd vaopd.mask_tokens=highest_va"
  "vaopd_rollout_weights vaopd vaopd.token_grouping=false"
  "vaopd_token_groups vaopd vaopd.rollout_weighting=false"
  "vaopd vaopd"
  "vaopd_distribution vaopd vaopd.score=distribution"
)
PARTIAL="trainer.v1.trainer_mode=colocate_async trainer.v1.colocate_async.num_warmup_batches"
BOUND="trainer.v1.sampler.max_off_policy_threshold"
ROOM="actor_rollout_ref.rollout.max_num_seqs=192" # 2 batches ahead: (2 + 1) x 16 prompts x 4 answers in vLLM at once
STALENESS=(
  "opd opd $ROOM"
  "opd_partial_2_4 opd $ROOM $PARTIAL=2 $BOUND=4"
  "vaopd vaopd $ROOM"
  "vaopd_partial_2_4 vaopd $ROOM $PARTIAL=2 $BOUND=4"
  "opd_partial_1_2 opd $ROOM $PARTIAL=1 $BOUND=2"
  "vaopd_partial_1_2 vaopd $ROOM $PARTIAL=1 $BOUND=2"
)
OPTIM="actor_rollout_ref.actor.optim"
SIZES="data.train_batch_size=4 trainer.total_training_steps=30 vaopd.freeze=[vision,merger]"
SIZES+=" $OPTIM.lr=2e-5 $OPTIM.lr_scheduler_type=constant $OPTIM.betas=[0.9,0.999] $OPTIM.weight_decay=0"
SIZES+=" actor_rollout_ref.rollout.temperature=1 actor_rollout_ref.rollout.top_p=1"
SIZES+=" trainer.val_before_train=false trainer.test_freq=-1"
DILUTION=( # as the study has it; the last of two overrides holds
  "opd opd $SIZES"
  "vaopd vaopd $SIZES"
  "vaopd_distribution vaopd $SIZES vaopd.score=distribution"
  "matched_distribution vaopd $SIZES vaopd.score=distribution vaopd.high_fraction=MATCHED"
  "mass_distribution vaopd $SIZES vaopd.method=vaopd_mass vaopd.score=distribution"
)

runs=paper seeds=5 parallel=1 dry_run="" overrides=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --runs)
      case "${2:-}" in paper | staleness | dilution) ;; *) refuse "--runs wants paper, staleness or dilution, got '${2:-}'" ;; esac
      runs="$2"
      shift
      ;;
    --seeds | --parallel)
      [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || refuse "$1 wants a number, 1 or more, got '${2:-}'"
      declare "${1#--}=$2"
      shift
      ;;
    --dry-run) dry_run=yes ;;
    --restarts | --restarts=*)
      restarts="${1#--restarts}"
      if [[ -z "$restarts" ]]; then restarts="=${2:-}" && shift; fi
      [[ "$restarts" =~ ^=[0-9]+$ ]] || refuse "--restarts wants a whole number, 0 or more, got '${restarts#=}'"
      overrides+=(--restarts "${restarts#=}")
      ;;
    -*) refuse "unknown option $1: there are --runs NAME, --seeds N, --parallel N, --dry-run, --restarts N and --help" ;;
    *) overrides+=("$1") ;;
  esac
  shift
done

case "$runs" in
  paper) RUNS=("${PAPER[@]}") folder=replicate_tiny_cpu ;;
  staleness)
    RUNS=("${STALENESS[@]}") folder=staleness_tiny_cpu
    export TASK="${TASK:-perimeter}"
    ;;
  dilution)
    [[ "${TASK:-dilution}" == dilution ]] || refuse "TASK=$TASK: --runs dilution is of TASK=dilution"
    export TASK=dilution WORDS="${WORDS:-160}"
    refuse_unknown_task
    # Four tokens of an answer are visual, 34 are neither that nor words.
    RUNS=("${DILUTION[@]/MATCHED/$(awk "BEGIN { printf \"%.4f\", 4 / (4 + 34 + $WORDS) }")}") folder=dilution_tiny_cpu
    ;;
esac
refuse_unknown_task
folder="$(realpath -m "${REPLICATION_DIR:-outputs/$folder}")"
say() { printf '%s  replicate: %s\n' "$(date +%T)" "$*"; }
started=$SECONDS number=0 running=0 done_now=0 total=$((seeds * ${#RUNS[@]})) run_dirs=()

stop() { # the runs that are on save a checkpoint, and end
  trap - INT TERM
  mapfile -t children < <(jobs -pr)
  if ((${#children[@]})); then
    kill -TERM "${children[@]}" || true # one may just have ended
    wait || true
  fi
  say "$1"
  exit "$2"
}
trap 'stop "stopped; the same command goes on" 0' TERM
trap 'stop "stopped; the same command goes on" 130' INT

wait_for_one() {
  wait -n || stop "a run ended with status $?; its lines are above" 1
  running=$((running - 1)) done_now=$((done_now + 1))
  seconds=$((SECONDS - started))
  say "$seconds s for $done_now runs; at most $((seconds * (total - number + running) / done_now / 60)) minutes to go"
}

for ((seed = 1; seed <= seeds; seed++)); do
  for line in "${RUNS[@]}"; do
    read -r name method settings <<<"$line"
    number=$((number + 1))
    run_dir="$folder/$name/seed_$seed"
    answers="$folder/answers/seed_$seed"
    run_dirs+=("$run_dir")
    read -ra settings <<<"$settings"
    command=(bash "recipes/table1/$method.sh" --tiny "${settings[@]}"
      data.seed="$seed" actor_rollout_ref.rollout.seed="$seed" "${overrides[@]}")
    if [[ -n "$dry_run" ]]; then
      printf 'RUN_DIR=%q ANSWERS_DIR=%q' "$run_dir" "$answers"
      [[ -z "${TASK:-}" ]] || printf ' TASK=%q' "$TASK"
      [[ -z "${WORDS:-}" ]] || printf ' WORDS=%q' "$WORDS"
      printf ' %q' "${command[@]}"
      printf '\n'
      continue
    fi
    if [[ -f "$run_dir/summary.json" ]]; then
      say "run $number of $total is there: $run_dir"
      continue
    fi
    if ((running == parallel)); then wait_for_one; fi
    say "run $number of $total: $name, seed $seed"
    if [[ "$method" == cot_sft || "$method" == offpolicy_kd ]]; then # the first of the two makes the answers of both
      command=(flock --no-fork "$folder/answers_$seed.lock" "${command[@]}")
      mkdir -p "$folder"
    fi
    RUN_DIR="$run_dir" ANSWERS_DIR="$answers" "${command[@]}" > >(sed -u "s/^/$name $seed: /") 2>&1 &
    running=$((running + 1))
  done
done
while ((running)); do wait_for_one; done
[[ -z "$dry_run" ]] || exit 0
for run_dir in "${run_dirs[@]}"; do
  [[ -f "$run_dir/summary.json" ]] || stop "$run_dir was stopped before its end; the same command goes on" 1
done
source scripts/venv.sh
venv="$(venv_of cpu)"
if [[ "$runs" == dilution ]]; then
  models="${VAOPD_TINY_DIR:-${VAOPD_CACHE:-$root/.cache}/tiny_dilution}"
  exec "$venv/bin/python" -m verl_vaopd.study.measure --models "$models" --words "$WORDS" "${run_dirs[@]/%//student}"
fi
"$venv/bin/verl-vaopd" report "${run_dirs[@]}" --output "$folder/report"
