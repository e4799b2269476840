#!/usr/bin/env bash
# VA-OPD and the accuracy reward in one objective: a tenth of GRPO's loss beside the distillation, Qwen3-VL-8B to 2B on
# Geometry3K. docs/methods.md has the objective. vaopd.method=opd or gkd takes the same setting.
#
# Reproduces: no figure; whether a reward helps where the teacher is wrong. vaopd.reward_weight=0 is VA-OPD itself.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny on 2 cores without a GPU. recipes/table1/method.sh has the options.
# Time:       not measured.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/table1/method.sh"

# shellcheck disable=SC2034 # read by run_method
GROUP=beyond NAME=vaopd_with_reward
run_method vaopd vaopd.reward_weight=0.1 "$@"
