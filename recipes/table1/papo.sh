#!/usr/bin/env bash
# PAPO: GRPO with the implicit perception loss and double entropy; no teacher is loaded. docs/methods.md has the objective and its source.
#
# Reproduces: Table 1, row PAPO.
# Expect:     figures of the paper, avg@8: mathematical reasoning 45.0, visual understanding 65.4.
# Runs on:    8 GPUs of 80 GB on one node; with --tiny on 2 cores without a GPU. recipes/table1/method.sh has the options.
# Time:       not measured.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/method.sh"

run_method papo "$@"
