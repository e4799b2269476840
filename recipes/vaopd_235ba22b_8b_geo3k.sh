#!/usr/bin/env bash
# VA-OPD, Qwen3-VL-235B-A22B (a mixture of experts) to 8B on Geometry3K: beyond the paper.
#
# Expect:     no figure of the paper's, and none of this project's yet.
# Runs on:    2 nodes of 8 GPUs of 80 GB; a Ray cluster or a Slurm job has to be there (docs/cluster.md). About 1 TB of host
#             memory on the first node, which loads the whole teacher (471 GB) before it is sharded; 500 GB on the other.
# Time:       not measured. `verl-vaopd plan vaopd_235ba22b_8b_geo3k` predicts 18 h on 16 A100, at most 68 of 80 GB a
#             GPU, with 200 Gbit/s between nodes for each.
set -euo pipefail
NNODES="${NNODES:-2}"
source "$(dirname "${BASH_SOURCE[0]}")/gpu.sh"

# By `verl-vaopd plan`: the shards of all experts in bf16, 29 GB a GPU, do not fit beside vLLM, so they wait in host memory
# (236 GB a node). In its own phase the teacher needs 63 GB: shards, one layer of 5 GB as gathered and as laid out, what its
# micro-batches hold. At 0.7 of the memory vLLM holds 19 sequences of full length of the 8B student.
MEMORY=(
  actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.gpu_memory_utilization=0.7
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

launch Qwen/Qwen3-VL-8B-Instruct Qwen/Qwen3-VL-235B-A22B-Instruct geometry3k "${MEMORY[@]}" "${TRAINING[@]}" "$@"
