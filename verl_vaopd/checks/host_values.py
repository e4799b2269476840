"""verl's settings that a run depends on, and which values they can have: verl itself looks at few of them."""

from collections.abc import Mapping

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from verl_vaopd.data.reward import ANSWERS, compute_score
from verl_vaopd.settings import kinds

HOST_VALUES = {
    "data": {
        "train_batch_size": kinds.COUNT,
        "max_prompt_length": kinds.COUNT,
        "max_response_length": kinds.COUNT,
        "train_max_samples": kinds.LIMIT,
        "val_max_samples": kinds.LIMIT,
        "seed": kinds.SEED,
        "dataloader_num_workers": kinds.SEED,
        "prompt_key": kinds.TEXT,
        "image_key": kinds.TEXT,
        "apply_chat_template_kwargs": kinds.SECTION,
        "mm_processor_kwargs": kinds.or_null(kinds.SECTION),
        "filter_overlong_prompts": kinds.SWITCH,
        "tool_config_path": kinds.NOTHING,
        "function_tool_path": kinds.NOTHING,
    },
    "actor_rollout_ref.model": {
        "path": kinds.TEXT,
        "use_remove_padding": kinds.SWITCH,
        "enable_gradient_checkpointing": kinds.SWITCH,
        "override_config": kinds.SECTION,
        "lora_rank": kinds.SEED,
        "lora_alpha": kinds.COUNT,
        "target_modules": kinds.MODULES,
        "exclude_modules": kinds.or_null(kinds.MODULES),
        "tokenizer_path": kinds.NOTHING,
        "custom_chat_template": kinds.NOTHING,
    },
    "actor_rollout_ref.model.lora": {"merge": kinds.SWITCH},
    "actor_rollout_ref.actor": {
        "ppo_mini_batch_size": kinds.COUNT,
        "ppo_epochs": kinds.COUNT,
        "ppo_max_token_len_per_gpu": kinds.COUNT,
        "ppo_micro_batch_size_per_gpu": kinds.WHOLE_OR_NONE,
        "ulysses_sequence_parallel_size": kinds.COUNT,
        "use_dynamic_bsz": kinds.SWITCH,
        "use_kl_loss": kinds.SWITCH,
        "data_loader_seed": kinds.SEED,
        "freeze_vision_tower": kinds.SWITCH,
    },
    "actor_rollout_ref.actor.optim": {
        "lr": kinds.POSITIVE,
        "lr_warmup_steps_ratio": kinds.RATIO,
        "lr_warmup_steps": kinds.or_null(
            (lambda value: value == -1 or kinds.SEED[0](value), "a whole number, -1 or more")
        ),
        "lr_scheduler_type": kinds.one_of("constant", "cosine"),
        "min_lr_ratio": kinds.or_null(kinds.RATIO),
        "num_cycles": kinds.NOT_NEGATIVE,
        "weight_decay": kinds.NOT_NEGATIVE,
        "clip_grad": kinds.POSITIVE,
        "betas": kinds.BETAS,
        "optimizer": kinds.TEXT,
        "optimizer_impl": kinds.TEXT,
    },
    "actor_rollout_ref.actor.fsdp_config": {
        "mixed_precision": kinds.SECTION,
        "fsdp_size": kinds.LIMIT,
        "model_dtype": kinds.DTYPE,
    },
    "actor_rollout_ref.actor.fsdp_config.mixed_precision": {"reduce_dtype": kinds.DTYPE, "buffer_dtype": kinds.DTYPE},
    "actor_rollout_ref.actor.checkpoint": {
        "save_contents": kinds.contents("model", "optimizer", "extra", "hf_model"),
        "load_contents": kinds.contents("model", "optimizer", "extra"),
    },
    "actor_rollout_ref.rollout": {
        "n": kinds.COUNT,
        "temperature": kinds.POSITIVE,
        "top_p": kinds.SHARE,
        "top_k": kinds.LIMIT,
        "seed": kinds.SEED,
        "gpu_memory_utilization": kinds.SHARE,
        "tensor_model_parallel_size": kinds.COUNT,
        "max_num_batched_tokens": kinds.COUNT,
        "max_num_seqs": kinds.COUNT,
        "max_model_len": kinds.WHOLE_OR_NONE,
        "calculate_log_probs": kinds.SWITCH,
        "ignore_eos": kinds.SWITCH,
        "enforce_eager": kinds.SWITCH,
        "free_cache_engine": kinds.SWITCH,
        "dtype": kinds.one_of("auto", "half", "float16", "bfloat16", "float", "float32"),
    },
    "actor_rollout_ref.rollout.agent": {"num_workers": kinds.COUNT},
    "actor_rollout_ref.rollout.engine_kwargs": {"vllm": kinds.SECTION},
    "actor_rollout_ref.rollout.engine_kwargs.vllm": {"limit_mm_per_prompt": kinds.or_null(kinds.SECTION)},
    "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt": {"image": kinds.or_null(kinds.SEED)},
    "actor_rollout_ref.rollout.val_kwargs": {
        "n": kinds.COUNT,
        "temperature": kinds.NOT_NEGATIVE,
        "top_p": kinds.SHARE,
        "top_k": kinds.LIMIT,
        "do_sample": kinds.SWITCH,
    },
    "reward": {"num_workers": kinds.COUNT, "custom_reward_function": kinds.SECTION},
    "ray_kwargs": {"ray_init": kinds.SECTION},
    "global_profiler": {
        "tool": kinds.or_null(kinds.one_of("torch", "nsys", "torch_memory", "npu", "precision_debugger"))
    },
    "trainer": {
        "nnodes": kinds.COUNT,
        "n_gpus_per_node": kinds.COUNT,
        "total_epochs": kinds.COUNT,
        "total_training_steps": kinds.WHOLE_OR_NONE,
        "save_freq": kinds.EVERY,
        "test_freq": kinds.EVERY,
        "max_actor_ckpt_to_keep": kinds.WHOLE_OR_NONE,
        "val_before_train": kinds.SWITCH,
        "val_only": kinds.SWITCH,
        "device": kinds.one_of("cuda", "npu", "cpu"),
        "logger": kinds.NAMES,
        "default_local_dir": kinds.TEXT,
        "experiment_name": kinds.TEXT,
    },
}


def graded_by_rule(config) -> bool:
    """Is the reward that of ``data/reward.py``?"""
    return config.reward.custom_reward_function.path == f"pkg://{compute_score.__module__}"


def check_host_values(config) -> None:
    """Refuse impossible values: wrong types, NaN, infinities, and numbers out of range.

    Raises:
        ValueError: names the setting, its value and what it must be.
    """
    for section, settings in HOST_VALUES.items():
        for key, (possible, wanted) in settings.items():
            name = f"{section}.{key}"
            try:
                value = OmegaConf.select(config, name)
            except OmegaConfBaseException as error:
                raise ValueError(f"{name}: {str(error).splitlines()[0]}") from error
            value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            if not possible(value):
                raise ValueError(f"{name}={value!r}: must be {wanted}")
    reward = config.reward.custom_reward_function
    kwargs = reward.get("reward_kwargs", {})
    ours = graded_by_rule(config)  # another function has settings of its own
    if not isinstance(kwargs, Mapping) or (ours and kwargs.get("answer", "first_committed") not in list(ANSWERS)):
        raise ValueError(
            f"reward.custom_reward_function.reward_kwargs={kwargs}: its answer must be one of {', '.join(ANSWERS)}"
        )
    if unknown := [key for key in kwargs if ours and key != "answer"]:
        raise ValueError(
            f"reward.custom_reward_function.reward_kwargs.{unknown[0]}={kwargs[unknown[0]]!r}: "
            f"{compute_score.__module__} reads answer alone; take it out, or correct its name"
        )
    kept = config.actor_rollout_ref.actor.checkpoint
    if "extra" in kept.load_contents and "extra" not in kept.save_contents:
        raise ValueError(
            f"actor_rollout_ref.actor.checkpoint.save_contents={list(kept.save_contents)}: must have extra (schedule "
            "and random states) in it, as load_contents does"
        )
    rollout, data = config.actor_rollout_ref.rollout, config.data
    longest = data.max_prompt_length + data.max_response_length
    for name, value, wanted in (
        ("prompt_length", rollout.prompt_length, data.max_prompt_length),
        ("response_length", rollout.response_length, data.max_response_length),
    ):
        if value != wanted:
            raise ValueError(
                f"actor_rollout_ref.rollout.{name}={value!r}: must be {wanted}, as data.max_{name}, which sets both"
            )
    if rollout.max_model_len is not None and rollout.max_model_len < longest:
        raise ValueError(
            f"actor_rollout_ref.rollout.max_model_len={rollout.max_model_len}: must be null, or {longest} or more "
            "(data.max_prompt_length + data.max_response_length): vLLM would cut answers"
        )
