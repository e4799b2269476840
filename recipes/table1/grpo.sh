#!/usr/bin/env bash
# GRPO with the accuracy reward; no teacher is loaded. docs/methods.md has the objective and its source.
#
# Reproduces: Table 1, row GRPO.
# Expect:     figures of the paper, avg@8: mathematical reasoning 44.5, visual understanding 65.4.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny on 2 cores without a GPU. recipes/table1/method.sh has the options.
# Time:       not measured.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/method.sh"

run_method grpo "$@"
