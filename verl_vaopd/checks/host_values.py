"""verl's settings that a run depends on, and which values they can have: verl itself looks at few of them."""

from collections.abc import Mapping

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from verl_vaopd.data.reward import ANSWERS, compute_score
from verl_vaopd.settings.values import is_number, is_whole


def _whole(least: int):
    return lambda value: is_whole(value) and least <= value < 2**63, f"a whole number, {least} or more"


def _or_null(kind):
    return lambda value: value is None or kind[0](value), f"null, or {kind[1]}"


def _one_of(*known):
    return lambda value: not isinstance(value, dict | list) and value in known, f"one of {', '.join(map(str, known))}"


_COUNT, _SEED, _WHOLE_OR_NONE = _whole(1), _whole(0), _or_null(_whole(1))
_EVERY = lambda value: value == -1 or _COUNT[0](value), "a whole number, 1 or more, or -1: never"
_LIMIT = lambda value: value == -1 or _COUNT[0](value), "a whole number, 1 or more, or -1: no limit"
_SWITCH = lambda value: isinstance(value, bool), "true or false"
_POSITIVE = lambda value: is_number(value) and value > 0, "a positive number"
_NOT_NEGATIVE = lambda value: is_number(value) and value >= 0, "a number, 0 or more"
_SHARE = lambda value: is_number(value) and 0 < value <= 1, "a number in (0, 1]"
_RATIO = lambda value: is_number(value) and 0 <= value <= 1, "a number in [0, 1]"
_TEXT = lambda value: isinstance(value, str) and value != "", "text"
_NOTHING = lambda value: value is None, "null: prompts would not be those that were checked"
_SECTION = lambda value: isinstance(value, dict), "a section of settings"
_MODULES = (
    lambda value: _TEXT[0](value) or (isinstance(value, list) and value != [] and all(map(_TEXT[0], value))),
    "a regular expression for whole names of layers, or a list of names' ends",
)
_BETAS = (
    lambda value: isinstance(value, list) and len(value) == 2 and all(is_number(b) and 0 <= b < 1 for b in value),
    "two numbers in [0, 1)",
)

HOST_VALUES = {
    "data": {
        "train_batch_size": _COUNT,
        "max_prompt_length": _COUNT,
        "max_response_length": _COUNT,
        "train_max_samples": _LIMIT,
        "val_max_samples": _LIMIT,
        "seed": _SEED,
        "dataloader_num_workers": _SEED,
        "prompt_key": _TEXT,
        "image_key": _TEXT,
        "apply_chat_template_kwargs": _SECTION,
        "mm_processor_kwargs": _or_null(_SECTION),
        "filter_overlong_prompts": _SWITCH,
        "tool_config_path": _NOTHING,
        "function_tool_path": _NOTHING,
    },
    "actor_rollout_ref.model": {
        "path": _TEXT,
        "use_remove_padding": _SWITCH,
        "enable_gradient_checkpointing": _SWITCH,
        "override_config": _SECTION,
        "lora_rank": _SEED,
        "lora_alpha": _COUNT,
        "target_modules": _MODULES,
        "exclude_modules": _or_null(_MODULES),
        "tokenizer_path": _NOTHING,
        "custom_chat_template": _NOTHING,
    },
    "actor_rollout_ref.model.lora": {"merge": _SWITCH},
    "actor_rollout_ref.actor": {
        "ppo_mini_batch_size": _COUNT,
        "ppo_epochs": _COUNT,
        "ppo_max_token_len_per_gpu": _COUNT,
        "ppo_micro_batch_size_per_gpu": _WHOLE_OR_NONE,
        "ulysses_sequence_parallel_size": _COUNT,
        "use_dynamic_bsz": _SWITCH,
        "use_kl_loss": _SWITCH,
        "data_loader_seed": _SEED,
        "freeze_vision_tower": _SWITCH,
    },
    "actor_rollout_ref.actor.optim": {
        "lr": _POSITIVE,
        "lr_warmup_steps_ratio": _RATIO,
        "lr_warmup_steps": _or_null((lambda value: value == -1 or _SEED[0](value), "a whole number, -1 or more")),
        "lr_scheduler_type": _one_of("constant", "cosine"),
        "min_lr_ratio": _or_null(_RATIO),
        "num_cycles": _NOT_NEGATIVE,
        "weight_decay": _NOT_NEGATIVE,
        "clip_grad": _POSITIVE,
        "betas": _BETAS,
    },
    "actor_rollout_ref.actor.fsdp_config": {"mixed_precision": _SECTION, "fsdp_size": _LIMIT},
    "actor_rollout_ref.rollout": {
        "n": _COUNT,
        "temperature": _POSITIVE,
        "top_p": _SHARE,
        "top_k": _LIMIT,
        "seed": _SEED,
        "gpu_memory_utilization": _SHARE,
        "tensor_model_parallel_size": _COUNT,
        "max_num_batched_tokens": _COUNT,
        "max_num_seqs": _COUNT,
        "max_model_len": _WHOLE_OR_NONE,
        "calculate_log_probs": _SWITCH,
        "ignore_eos": _SWITCH,
        "enforce_eager": _SWITCH,
        "free_cache_engine": _SWITCH,
    },
    "actor_rollout_ref.rollout.agent": {"num_workers": _COUNT},
    "actor_rollout_ref.rollout.engine_kwargs": {"vllm": _SECTION},
    "actor_rollout_ref.rollout.engine_kwargs.vllm": {"limit_mm_per_prompt": _or_null(_SECTION)},
    "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt": {"image": _or_null(_SEED)},
    "actor_rollout_ref.rollout.val_kwargs": {
        "n": _COUNT,
        "temperature": _NOT_NEGATIVE,
        "top_p": _SHARE,
        "top_k": _LIMIT,
        "do_sample": _SWITCH,
    },
    "reward": {"num_workers": _COUNT, "custom_reward_function": _SECTION},
    "ray_kwargs": {"ray_init": _SECTION},
    "trainer": {
        "nnodes": _COUNT,
        "n_gpus_per_node": _COUNT,
        "total_epochs": _COUNT,
        "total_training_steps": _WHOLE_OR_NONE,
        "save_freq": _EVERY,
        "test_freq": _EVERY,
        "max_actor_ckpt_to_keep": _WHOLE_OR_NONE,
        "val_before_train": _SWITCH,
        "val_only": _SWITCH,
        "device": _TEXT,
        "default_local_dir": _TEXT,
        "experiment_name": _TEXT,
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
