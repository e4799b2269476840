#!/usr/bin/env bash
# VA-OPD, Qwen3-VL-32B to 2B on Geometry3K.
#
# Reproduces: Table 2, row 32B to 2B, Geo3K.
# Expect:     figures of the paper, avg@8: mathematical reasoning 54.8, visual understanding 67.3.
# Runs on:    8 GPUs of 80 GB on one node; recipes/gpu.sh tells the variables that change that.
# Time:       not measured. `verl-vaopd plan vaopd_32b_2b_geo3k` predicts 8.0 h on 8 A100, at most 57 of 80 GB a GPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpu.sh"

# By `verl-vaopd plan`: the teacher's shards, 8.3 GB a GPU, wait in host memory (67 GB a node), which costs 0.75 s of a
# step of 34 s and leaves 23 GB of a GPU free instead of 15 while vLLM generates. The teacher's micro-batches are the
# smallest that hold the longest rollout under both views (2 x 12,288 tokens). The rest is as for the 8B teacher.
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

launch Qwen/Qwen3-VL-2B-Instruct Qwen/Qwen3-VL-32B-Instruct geometry3k "${MEMORY[@]}" "${TRAINING[@]}" "$@"
