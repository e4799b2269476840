#!/usr/bin/env bash
# VA-OPD, Qwen3-VL-30B-A3B (a mixture of experts) to 2B on Geometry3K: beyond the paper.
#
# Expect:     no figure of the paper's, and none of this project's yet.
# Runs on:    8 GPUs of 80 GB on one node; recipes/gpu.sh tells the variables that change that.
# Time:       not measured. `verl-vaopd plan vaopd_30ba3b_2b_geo3k` predicts 4.8 h on 8 A100, at most 56 of 80 GB a GPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpu.sh"

# By `verl-vaopd plan`: all experts are stored, 7.8 GB a GPU, and gathered layer by layer, 1.3 GB; a token meets 8 of 128.
# As for the dense 32B teacher, the shards wait in host memory (62 GB a node).
MEMORY=(
  actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.gpu_memory_utilization=0.6
  actor_rollout_ref.actor.fsdp_config.param_offload=false
  actor_rollout_ref.actor.fsdp_config.optimizer_offload=false
  actor_rollout_ref.actor.ppo_max_token_len_per_gpu=32768
  vaopd.teacher.placement=colocated
  vaopd.teacher.param_offload=true
  vaopd.teacher.max_token_len_per_gpu=24576
)
# 131 steps an epoch of 2,101 problems, 655 in all: a checkpoint and a validation every 26th.
TRAINING=(
  trainer.total_epochs=5
  trainer.save_freq=26
  trainer.test_freq=26
)

launch Qwen/Qwen3-VL-2B-Instruct Qwen/Qwen3-VL-30B-A3B-Instruct geometry3k "${MEMORY[@]}" "${TRAINING[@]}" "$@"
