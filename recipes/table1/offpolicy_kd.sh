#!/usr/bin/env bash
# Off-policy distillation: forward KL to the teacher on the teacher's answers. docs/methods.md has the objective and its source.
#
# Reproduces: Table 1, row Off-policy KD.
# Expect:     figures of the paper, avg@8: mathematical reasoning 42.8, visual understanding 64.1.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny on 2 cores without a GPU. recipes/table1/method.sh has the options.
# Time:       not measured.
# First the teacher answers every training prompt (verl-vaopd answers), unless an earlier run had it do so.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/method.sh"

run_method offpolicy_kd "$@"
