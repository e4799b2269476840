"""Every setting of verl's, sorted: used, harmless, or refused since nothing of a run would follow it.

A pattern is a name of a setting; ``*`` stands for whatever follows. Of several that match, the longest counts.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache

from omegaconf import DictConfig, OmegaConf

ACTOR, MODEL, ROLLOUT = "actor_rollout_ref.actor.", "actor_rollout_ref.model.", "actor_rollout_ref.rollout."

USED = {  # section: its settings
    "actor_rollout_ref.actor.optim": (
        "betas clip_grad lr lr_scheduler_type lr_warmup_steps lr_warmup_steps_ratio min_lr_ratio num_cycles "
        "optimizer optimizer_impl override_optimizer_config total_training_steps warmup_style weight_decay "
        "zero_indexed_step"
    ),
    "actor_rollout_ref.actor.fsdp_config": (
        "fsdp_size full_determinism model_dtype offload_policy optimizer_offload param_offload "
        "reshard_after_forward seed ulysses_sequence_parallel_size use_no_sync_for_gradient_accumulation "
        "use_torch_compile"
    ),
    "actor_rollout_ref.actor.fsdp_config.mixed_precision": "buffer_dtype param_dtype reduce_dtype",
    "actor_rollout_ref.actor": (
        "clip_ratio clip_ratio_c clip_ratio_high clip_ratio_low data_loader_seed freeze_vision_tower "
        "loss_agg_mode ppo_epochs ppo_max_token_len_per_gpu ppo_micro_batch_size_per_gpu ppo_mini_batch_size "
        "strategy ulysses_sequence_parallel_size use_dynamic_bsz use_kl_loss use_torch_compile"
    ),
    "actor_rollout_ref.actor.policy_loss": "loss_mode",
    "actor_rollout_ref.actor.checkpoint": "async_save load_contents save_contents",
    "actor_rollout_ref.rollout": (
        "calculate_log_probs cudagraph_capture_sizes data_parallel_size disable_log_stats dtype "
        "enable_chunked_prefill enable_prefix_caching enable_sleep_mode enforce_eager free_cache_engine "
        "full_determinism gpu_memory_utilization ignore_eos load_format logprobs_mode max_model_len "
        "max_num_batched_tokens max_num_seqs mode n name pipeline_model_parallel_size prompt_length "
        "quantization quantization_config_file response_length scheduling_policy seed "
        "temperature tensor_model_parallel_size top_k top_p"
    ),
    "actor_rollout_ref.rollout.val_kwargs": "do_sample n temperature top_k top_p",
    "actor_rollout_ref.rollout.agent": "agent_loop_manager_class num_workers",
    "actor_rollout_ref.model": (
        "custom_chat_template enable_activation_offload enable_gradient_checkpointing exclude_modules external_lib "
        "lora_alpha lora_rank model_type path target_modules tokenizer_path trust_remote_code use_remove_padding "
        "use_shm"
    ),
    "actor_rollout_ref.model.lora": "merge",
    "data": (
        "dataloader_num_workers filter_overlong_prompts function_tool_path "
        "image_key max_prompt_length max_response_length prompt_key seed shuffle tool_config_path train_batch_size "
        "train_files train_max_samples trust_remote_code use_shm val_batch_size val_files val_max_samples "
        "validation_shuffle"
    ),
    "data.custom_cls": "name path",
    "custom_reward_function": "name path",
    "reward": "num_workers",
    "reward.custom_reward_function": "name path reward_kwargs",
    "reward.reward_manager": "name source",
    "reward.reward_manager.module": "name path",
    "algorithm": "norm_adv_by_std_in_grpo",
    "trainer": (
        "balance_batch default_hdfs_dir default_local_dir del_local_ckpt_after_load device experiment_name "
        "logger max_actor_ckpt_to_keep n_gpus_per_node nnodes project_name resume_from_path resume_mode "
        "rollout_data_dir save_freq test_freq total_epochs total_training_steps val_before_train "
        "val_only validation_data_dir"
    ),
    "trainer.v1": "sync trainer_mode",
    "trainer.v1.colocate_async": "num_warmup_batches",
    "trainer.v1.sampler": "max_off_policy_strategy max_off_policy_threshold sync_refill_failed_groups",
    "trainer.v1.sampler.custom_sampler": "name path",
    "ray_kwargs": "timeline_json_file",
}

OPEN = (  # sections that a library, or the function they are for, reads as a whole
    "actor_rollout_ref.rollout.engine_kwargs.vllm.*",
    "actor_rollout_ref.model.override_config.*",
    "data.mm_processor_kwargs.*",
    "global_profiler.*",
    "skip.*",
    "ray_kwargs.ray_init.*",
    "actor_rollout_ref.rollout.checkpoint_engine.*",
    "actor_rollout_ref.actor.profiler.*",
    "actor_rollout_ref.rollout.profiler.*",
    "actor_rollout_ref.rollout.trace.*",
    "actor_rollout_ref.rollout.prometheus.*",
    "transfer_queue.*",
    "reward.custom_reward_function.reward_kwargs.*",
    "data.apply_chat_template_kwargs*",
    "trainer.v1.sampler.sampler_kwargs*",
)

HARMLESS = (  # names of verl's dataclasses, and what is the same whatever it is set to
    "*._target_",
    "model_engine",  # which of verl's groups of settings the others come from
    "algorithm.use_kl_in_reward",  # looked at beside this list: it must be false
    "data.video_key",  # rows with videos are refused
    "data.audio_key",
)

REFUSED = {
    "critic.*": "there is no critic",
    "trainer.critic_warmup": "there is no critic",
    "trainer.max_critic_ckpt_to_keep": "there is no critic",
    "distillation.*": "it is verl's own distillation: vaopd.method and vaopd.teacher say what is distilled here",
    "actor_rollout_ref.ref.*": "there is no reference policy: vaopd.teacher is the other model",
    "reward_model.*": "there is no reward model: reward.custom_reward_function scores answers",
    "reward.reward_model.*": "there is no reward model: reward.custom_reward_function scores answers",
    "sandbox_fusion.*": "no code is run to score an answer: reward.custom_reward_function does it",
    "reward.sandbox_fusion.*": "no code is run to score an answer: reward.custom_reward_function does it",
    "algorithm.*": "the method (vaopd.method) says what is learnt, and by which advantages",
    "trainer.v1.separate_async*": "teacher, student and vLLM share their devices: set colocate_async",
    "trainer.log_val_generations": "trackers are given heat maps (docs/tracking.md), rollouts/ has held-out answers",
    "trainer.esi_redundant_time": "verl's trainer does not read it; Slurm's time limit is seen to by scripts/slurm",
    "trainer.checkpoint_callback_class": "verl's trainer does not read it",
    "trainer.ray_wait_register_center_timeout": "verl's trainer does not read it",
    "actor_rollout_ref.nccl_timeout": "verl's workers do not read it",
    "trainer.use_v1": "it chooses among verl's own trainers; the one here is this package's",
    "actor_rollout_ref.hybrid_engine": "it belongs to separate_async; student and vLLM share their devices here",
    "data.return_raw_input_ids": "verl's data set does not read it",
    "data.return_raw_chat": "verl's data set does not read it",
    "data.return_full_prompt": "verl's data set does not read it",
    "data.return_multi_modal_inputs": "verl's data set does not read it",
    "data.truncation": "no prompt is cut: one of more than data.max_prompt_length is refused",
    "data.image_patch_size": "the student's image processor has it (actor_rollout_ref.model.path)",
    "data.reward_fn_key": "the column data_source says which data set a row is of",
    "data.tokenizer": "the student's folder has it (actor_rollout_ref.model.path)",
    "data.filter_overlong_prompts_workers": "no row is dropped (data.filter_overlong_prompts)",
    "data.gen_batch_size": "a step samples data.train_batch_size prompts",
    MODEL + "lora.*": "it belongs to Megatron: set model.lora_rank, lora_alpha, target_modules, exclude_modules",
    MODEL + "lora_adapter_path": "adapters begin at zero; merge that one into the student first",
    MODEL + "hf_config_path": "the config is that of actor_rollout_ref.model.path",
    MODEL + "use_liger": "it would replace the layers that student and teacher share",
    MODEL + "use_fused_kernels": "the loss is fused already (vaopd.chunk_size)",
    MODEL + "fused_kernel_options*": "the loss is fused already (vaopd.chunk_size)",
    MODEL + "tiled_mlp*": "it would replace the layers that student and teacher share",
    MODEL + "mtp*": "the models have no heads for several tokens",
    ROLLOUT + "mtp*": "the models have no heads for several tokens",
    ACTOR + "rollout_n": "set actor_rollout_ref.rollout.n",
    ACTOR + "use_remove_padding": "vaopd.layout says how rows are laid out",
    ACTOR + "checkpoint.strict": "it belongs to Megatron; the strategy here is fsdp2",
    ACTOR + "fsdp_config.dtype": "it belongs to Megatron: set fsdp_config.mixed_precision.param_dtype",
    ACTOR + "ppo_micro_batch_size": "set ppo_micro_batch_size_per_gpu",
    ACTOR + "tau_*": "it belongs to a policy loss that no method here uses",
    ACTOR + "policy_loss.*": "GRPO and PAPO use verl's vanilla policy loss",
    ACTOR + "loss_scale_factor": "the weights of the method hold every normalisation",
    ACTOR + "entropy_coeff": "the method says what is minimised (PAPO: vaopd.papo.entropy_weight)",
    ACTOR + "calculate_*": "the method says what is measured",
    ACTOR + "use_prefix_grouper": "prompts and images are shared by siblings already",
    ACTOR + "kl_loss_*": "there is no reference policy: vaopd.teacher is the other model",
    ACTOR + "shuffle": "rollouts are used once, in an order that puts siblings together",
    ACTOR + "use_fused_kernels": "the loss is fused already (vaopd.chunk_size)",
    ACTOR + "qat*": "training at lower precision is not supported",
    ACTOR + "fsdp_config.qat*": "training at lower precision is not supported",
    ROLLOUT + "qat*": "training at lower precision is not supported",
    ACTOR + "grad_clip": "set optim.clip_grad",
    ACTOR + "*entropy_from_logits*": "no logits are kept: entropy comes with the loss (vaopd.chunk_size)",
    ACTOR + "*entropy_checkpointing": "no logits are kept: entropy comes with the loss (vaopd.chunk_size)",
    ACTOR + "*pad_to_length*": "rows are packed, never padded",
    ACTOR + "fsdp_config.wrap_policy*": "it belongs to FSDP1; the strategy here is fsdp2",
    ACTOR + "fsdp_config.use_orig_params": "it belongs to FSDP1; the strategy here is fsdp2",
    ACTOR + "fsdp_config.forward_prefetch": "it belongs to FSDP1; the strategy here is fsdp2",
    ACTOR + "fsdp_config.turbo_config.*": "it belongs to another strategy; the one here is fsdp2",
    ROLLOUT + "engine_kwargs.sglang*": "rollouts are vLLM's",
    ROLLOUT + "engine_kwargs.trtllm*": "rollouts are vLLM's",
    ACTOR + "fsdp_config.forward_only": "the student is trained",
    ACTOR + "fsdp_config.strategy": "set actor_rollout_ref.actor.strategy",
    ROLLOUT + "do_sample": "rollouts are sampled (temperature, top_p); val_kwargs.do_sample is that of validations",
    ROLLOUT + "log_prob_*": "log-probabilities come with the update (actor.ppo_max_token_len_per_gpu)",
    ROLLOUT + "over_sample_rate": "every rollout is used",
    ROLLOUT + "skip_tokenizer_init": "it belongs to sglang; rollouts are vLLM's",
    ROLLOUT + "multi_stage_wake_up": "it belongs to sglang; rollouts are vLLM's",
    ROLLOUT + "router_config_path": "verl's trainer does not read it",
    ROLLOUT + "multi_turn*": "an answer is one turn",
    ROLLOUT + "layered_summon": "adapters are gathered one by one as it is",
    ROLLOUT + "agent.custom_async_server*": "verl's trainer does not read it",
    ROLLOUT + "agent.default_agent_loop": "agent.agent_loop_manager_class makes the answers",
    ROLLOUT + "agent.agent_loop_config_path": "agent.agent_loop_manager_class makes the answers",
    ROLLOUT + "moe_load_balance_metrics_interval": "vLLM runs the student, which has no experts",
    ROLLOUT + "enable_rollout_routing_replay": "vLLM runs the student, which has no experts",
    ROLLOUT + "expert_parallel_size": "vLLM runs the student, which has no experts",
    ROLLOUT + "disaggregation*": "a vLLM replica reads and writes on the same devices",
    ROLLOUT + "nnodes": "rollouts run on the student's devices (trainer.nnodes)",
    ROLLOUT + "n_gpus_per_node": "rollouts run on the student's devices (trainer.n_gpus_per_node)",
}
"""Why nothing follows a setting."""


def kind_of(name: str) -> str | None:
    """``used``, ``harmless``, ``refused``, or None: a setting of verl's that nobody has looked at."""
    found = _longest(name)
    return found[1] if found else None


@cache
def _longest(name: str) -> tuple[str, str] | None:
    names = [f"{section}.{key}" for section, keys in USED.items() for key in keys.split()]
    kinds = (("used", (*names, *OPEN)), ("harmless", HARMLESS), ("refused", REFUSED))
    matching = [(pattern, kind) for kind, patterns in kinds for pattern in patterns if fnmatchcase(name, pattern)]
    return max(matching, key=lambda match: len(match[0]), default=None)


def leaves(config: DictConfig, section: str = "") -> Iterator[tuple[str, object]]:
    """(name, value) of every setting; interpolations as they are written."""
    for key, value in config.items_ex(resolve=False):
        name = f"{section}.{key}" if section else str(key)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation() and len(value):
            yield from leaves(value, name)
        else:
            yield name, OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value


def refuse_unread(config: DictConfig, host: DictConfig) -> None:
    """Refuse settings that differ from those of ``host``, the config that nobody has changed, and that nothing reads.

    Raises:
        ValueError: names the setting and why nothing follows it.
    """
    given = dict(leaves(host))
    for name, value in leaves(config):
        if name.startswith("vaopd.") or (name in given and value == given[name]):
            continue
        if kind_of(name) is None:
            raise ValueError(f"{name}={value!r}: verl has no such setting; take it out, or correct its name")
        if kind_of(name) == "refused":
            raise ValueError(f"{name}={value!r}: nothing here follows it; take it out: {REFUSED[_longest(name)[0]]}")
