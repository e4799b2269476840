#!/usr/bin/env bash
# Self-distillation from a better picture: the student is shown images at half their resolution, and learns from its own
# frozen copy, which sees them as they are. Tokens weigh as in VA-OPD. Qwen3-VL-2B on Geometry3K. docs/methods.md says more.
#
# Reproduces: no figure, it is no method of the paper; whether a student can make up for a coarse picture without a teacher.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny, where the student is the tiny teacher, on 2 cores without a GPU.
#             recipes/table1/method.sh has the options.
# Time:       not measured on GPUs.
#
# vaopd.rollout_weighting=false vaopd.token_grouping=false weighs tokens alike; vaopd.degradation_ratio is the share of the
# resolution that is shown.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/table1/method.sh"

# Both are one model. The tiny student reads badly by itself, so its frozen copy could teach it nothing.
# shellcheck disable=SC2016 # hydra's to expand
itself='vaopd.teacher.path=${actor_rollout_ref.model.path}'
# shellcheck disable=SC2016
if [[ " $* " == *" --tiny "* ]]; then itself='actor_rollout_ref.model.path=${vaopd.teacher.path}'; fi

# shellcheck disable=SC2034 # read by run_method
GROUP=beyond NAME=self_distillation
run_method self "$itself" vaopd.degradation_ratio=0.5 "$@"
