#!/usr/bin/env bash
# VA-OPD, Qwen2.5-VL-7B to 3B on Geometry3K: beyond the paper.
#
# Expect:     no figure of the paper's, and none of this project's yet.
# Runs on:    8 GPUs of 80 GB on one node; recipes/gpu.sh tells the variables that change that.
# Time:       not measured. `verl-vaopd plan vaopd_7b_3b_qwen2_5_geo3k` predicts 6.4 h on 8 A100, at most 61 of 80 GB a GPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpu.sh"

# By `verl-vaopd plan`, as for Qwen3-VL-8B: nothing is offloaded. vLLM holds 81 sequences of full length (two heads of
# keys and values), the largest micro-batches need 21 GB (teacher) and 35 GB (student).
MEMORY=(
  actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.gpu_memory_utilization=0.6
  actor_rollout_ref.actor.fsdp_config.param_offload=false
  actor_rollout_ref.actor.fsdp_config.optimizer_offload=false
  actor_rollout_ref.actor.ppo_max_token_len_per_gpu=32768
  vaopd.teacher.placement=colocated
  vaopd.teacher.param_offload=false
  vaopd.teacher.max_token_len_per_gpu=32768
)
# 131 steps an epoch of 2,101 problems, 655 in all: a checkpoint and a validation every 26th.
TRAINING=(
  trainer.total_epochs=5
  trainer.save_freq=26
  trainer.test_freq=26
)

launch Qwen/Qwen2.5-VL-3B-Instruct Qwen/Qwen2.5-VL-7B-Instruct geometry3k "${MEMORY[@]}" "${TRAINING[@]}" "$@"
