#!/usr/bin/env bash
# Supervised fine-tuning on the teacher's right answers. docs/methods.md has the objective and its source.
#
# Reproduces: Table 1, row CoT-SFT.
# Expect:     figures of the paper, avg@8: mathematical reasoning 42.7, visual understanding 63.7.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny on 2 cores without a GPU. recipes/table1/method.sh has the options.
# Time:       not measured.
# First the teacher answers every training prompt (verl-vaopd answers), unless an earlier run had it do so.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/method.sh"

run_method cot_sft "$@"
