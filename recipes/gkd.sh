#!/usr/bin/env bash
# GKD: the generalised Jensen-Shannon divergence on the student's answers, Qwen3-VL-8B to 2B on Geometry3K.
# docs/methods.md has the objective and its source.
#
# Reproduces: no figure; what Standard OPD and VA-OPD are compared with under another divergence.
#             vaopd.gkd.beta=0 is forward KL, 1 reverse KL, default 0.5; vaopd.gkd.token_weights=visual_advantage weighs as
#             VA-OPD.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny on 2 cores without a GPU. recipes/table1/method.sh has the options.
# Time:       not measured.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/table1/method.sh"

# shellcheck disable=SC2034 # read by run_method
GROUP=beyond
run_method gkd "$@"
