#!/usr/bin/env bash
# GRPO with the accuracy reward, a rollout's tokens weighed by visual advantage in VA-OPD's two groups: a teacher scores
# both views, nothing is distilled. Qwen3-VL-8B and 2B on Geometry3K. docs/methods.md has the objective.
#
# Reproduces: no figure, it is no method of the paper; whether visual advantage helps without distillation.
#             recipes/table1/grpo.sh is what to compare it with.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny on 2 cores without a GPU. recipes/table1/method.sh has the options.
# Time:       not measured.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/table1/method.sh"

# shellcheck disable=SC2034 # read by run_method
GROUP=beyond
run_method grpo_va "$@"
