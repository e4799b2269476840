#!/usr/bin/env bash
# Standard on-policy distillation, Eq. 1. docs/methods.md has the objective and its source.
#
# Reproduces: Table 1, row OPD.
# Expect:     figures of the paper, avg@8: mathematical reasoning 45.4, visual understanding 64.6.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny on 2 cores without a GPU. recipes/table1/method.sh has the options.
# Time:       not measured.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/method.sh"

run_method opd "$@"
