#!/usr/bin/env bash
# VA-OPD, Qwen3-VL-8B to 2B on ViRL39K.
#
# Reproduces: Table 2, row 8B to 2B, ViRL39K.
# Expect:     figures of the paper, avg@8: mathematical reasoning 50.2, visual understanding 68.0.
# Runs on:    8 GPUs of 80 GB on one node; recipes/gpu.sh tells the variables that change that.
# Time:       not measured. `verl-vaopd plan vaopd_8b_2b_virl39k` predicts 81 h on 8 A100, at most 59 of 80 GB a GPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpu.sh"

# As for Geometry3K, where the reasons are (`verl-vaopd plan`); rows may hold several images.
MEMORY=(
  actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.gpu_memory_utilization=0.6
  actor_rollout_ref.actor.fsdp_config.param_offload=false
  actor_rollout_ref.actor.fsdp_config.optimizer_offload=false
  actor_rollout_ref.actor.ppo_max_token_len_per_gpu=32768
  vaopd.teacher.placement=colocated
  vaopd.teacher.param_offload=false
  vaopd.teacher.max_token_len_per_gpu=32768
  ++actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=16
  ++actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.video=0
)
# 2,429 steps an epoch of 38,870 rows, 12,145 in all: a checkpoint and a validation every 200th.
TRAINING=(
  trainer.total_epochs=5
  trainer.save_freq=200
  trainer.test_freq=200
)

launch Qwen/Qwen3-VL-2B-Instruct Qwen/Qwen3-VL-8B-Instruct virl39k "${MEMORY[@]}" "${TRAINING[@]}" "$@"
