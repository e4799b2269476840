#!/usr/bin/env bash
# VA-OPD, Qwen3-VL-4B to 2B on Geometry3K.
#
# Reproduces: Table 2, row 4B to 2B, Geo3K.
# Expect:     figures of the paper, avg@8: mathematical reasoning 47.4, visual understanding 65.2.
# Runs on:    8 GPUs of 80 GB on one node; recipes/gpu.sh tells the variables that change that.
# Time:       not measured. `verl-vaopd plan vaopd_4b_2b_geo3k` predicts 4.8 h on 8 A100, at most 57 of 80 GB a GPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpu.sh"

# By `verl-vaopd plan`: the student fits one GPU, so vLLM runs a replica on each; at 0.6 of the memory it holds 28
# sequences of full length, of the 200 a validation gives it. Teacher shards (1.1 GB) and optimiser states (2.1 GB) are
# small enough to stay. The largest micro-batches need 17 GB (teacher) and 28 GB (student).
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

launch Qwen/Qwen3-VL-2B-Instruct Qwen/Qwen3-VL-4B-Instruct geometry3k "${MEMORY[@]}" "${TRAINING[@]}" "$@"
