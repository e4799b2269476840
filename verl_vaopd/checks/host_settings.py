"""verl's settings under which a run would not do what its method says, part by part of the config."""

import re
from collections.abc import Iterator

from verl_vaopd.checks.safety import refuse_unsafe_settings
from verl_vaopd.methods import Method, method_of
from verl_vaopd.methods.interface.followed import unfollowed
from verl_vaopd.methods.interface.method import Refusal
from verl_vaopd.settings.compose import instantiate
from verl_vaopd.settings.values import is_whole

WORKER_EXTENSION = "verl_vaopd.rollout.weight_socket.PrivateSocketExtension"
MAX_ADAPTER_RANK = 512
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


def validate_host_settings(config) -> None:
    """Refuse verl settings under which the loss would not be the method's, and unsafe ones.

    Raises:
        ValueError: names the setting and what to set instead.
    """
    refuse_unsafe_settings(config)
    method = method_of(instantiate(config))
    parts = (_data(config), _batch(config), _token_budgets(config, method), _student(config), _rollout(config))
    parts += (_devices(config), _trainer(config), method.refusals(config), unfollowed(method, config))
    for refusals in parts:
        for wrong, name, value, wanted in refusals:
            if wrong:
                raise ValueError(f"{name}={value!r}: must be {wanted}")


def _data(config) -> Iterator[Refusal]:
    data = config.data
    budget = dict(data.mm_processor_kwargs or {})
    yield (
        not _is_pixel_budget(budget),
        "data.mm_processor_kwargs",
        budget,
        "{min_pixels: A, max_pixels: B} with 1 <= A <= B, or null: the budget of the checkpoint",
    )
    yield (
        data.val_batch_size is not None,
        "data.val_batch_size",
        data.val_batch_size,
        "null: validation is one batch, over which its VA is taken",
    )
    name = "data.filter_overlong_prompts"
    yield data.filter_overlong_prompts, name, True, "false: no row is dropped silently"


def _is_pixel_budget(budget: dict) -> bool:
    low, high = budget.get("min_pixels"), budget.get("max_pixels")
    whole = is_whole(low) and is_whole(high)
    return not budget or (set(budget) == {"min_pixels", "max_pixels"} and whole and 1 <= low <= high)


def _batch(config) -> Iterator[Refusal]:
    """How a batch is dealt out to ranks and optimiser steps."""
    actor, rollouts, batch = (
        config.actor_rollout_ref.actor,
        config.actor_rollout_ref.rollout.n,
        config.data.train_batch_size,
    )
    world, sequence_ranks = config.trainer.n_gpus_per_node * config.trainer.nnodes, actor.ulysses_sequence_parallel_size
    ranks, mini_batch = max(1, world // sequence_ranks), actor.ppo_mini_batch_size
    yield rollouts < 1, f"{ROLLOUT}.n", rollouts, "1 or more rollouts per prompt"
    yield (
        mini_batch < 1 or batch % mini_batch,
        f"{ACTOR}.ppo_mini_batch_size",
        mini_batch,
        f"a divisor of data.train_batch_size ({batch}): every optimiser step takes whole prompts",
    )
    yield (
        mini_batch != batch and mini_batch * rollouts % ranks,
        f"{ACTOR}.ppo_mini_batch_size",
        mini_batch,
        f"such that its rollouts (times rollout.n={rollouts}) divide by the {ranks} data-parallel ranks",
    )
    yield actor.ppo_epochs != 1, f"{ACTOR}.ppo_epochs", actor.ppo_epochs, "1: rollouts are used once"
    yield (
        world % sequence_ranks != 0,
        f"{ACTOR}.ulysses_sequence_parallel_size",
        sequence_ranks,
        f"a divisor of the {world} devices",
    )


def _token_budgets(config, method: Method) -> Iterator[Refusal]:
    """A micro-batch must hold the longest rollout."""
    actor, teacher, data = config.actor_rollout_ref.actor, config.vaopd.teacher, config.data
    longest, sequence_ranks = data.max_prompt_length + data.max_response_length, actor.ulysses_sequence_parallel_size
    views = method.student_views
    yield (
        actor.use_dynamic_bsz and actor.ppo_max_token_len_per_gpu * sequence_ranks < views * longest,
        f"{ACTOR}.ppo_max_token_len_per_gpu",
        actor.ppo_max_token_len_per_gpu,
        f"{-(-views * longest // sequence_ranks)} or more: a rollout may have {longest} tokens "
        "(data.max_prompt_length + data.max_response_length)" + " under 2 views" * (views > 1),
    )
    views = method.teacher_views
    yield (
        teacher.use_dynamic_bsz and teacher.max_token_len_per_gpu < views * longest,
        "vaopd.teacher.max_token_len_per_gpu",
        teacher.max_token_len_per_gpu,
        f"{views * longest} or more: a rollout may have {longest} tokens (data.max_prompt_length + "
        f"data.max_response_length) under {views} view{'s' * (views > 1)}",
    )


def _student(config) -> Iterator[Refusal]:
    actor, model = config.actor_rollout_ref.actor, config.actor_rollout_ref.model
    dtype = actor.fsdp_config.mixed_precision.param_dtype
    yield actor.strategy != "fsdp2", f"{ACTOR}.strategy", actor.strategy, "'fsdp2'"
    name = "actor_rollout_ref.model.use_remove_padding"
    yield not model.use_remove_padding, name, False, "true: rows are always packed"
    name = f"{ACTOR}.fsdp_config.mixed_precision.param_dtype"
    yield dtype not in ("bf16", "fp32"), name, dtype, "'bf16' or 'fp32'"
    yield (
        model.lora_rank > MAX_ADAPTER_RANK and not model.lora.merge,
        "actor_rollout_ref.model.lora_rank",
        model.lora_rank,
        f"{MAX_ADAPTER_RANK} or less, vLLM's limit, or actor_rollout_ref.model.lora.merge true",
    )
    load_format = config.actor_rollout_ref.rollout.load_format
    yield (
        model.lora_rank > 0 and not model.lora.merge and load_format == "dummy",
        f"{ROLLOUT}.load_format",
        load_format,
        "'auto' or 'safetensors' with adapters that are not merged: vLLM is sent nothing else",
    )
    yield actor.use_kl_loss, f"{ACTOR}.use_kl_loss", True, "false: the loss is the method's alone"
    yield config.critic.enable is True, "critic.enable", True, "false: there is no critic"


def _rollout(config) -> Iterator[Refusal]:
    rollout = config.actor_rollout_ref.rollout
    yield rollout.name != "vllm", f"{ROLLOUT}.name", rollout.name, "'vllm'"
    yield rollout.temperature <= 0, f"{ROLLOUT}.temperature", rollout.temperature, "a positive number"
    yield (
        rollout.full_determinism,
        f"{ROLLOUT}.full_determinism",
        True,
        "false: all rollouts would be one request's; vaopd.seed_rollouts=true gives each a seed of its own",
    )
    yield (
        not rollout.calculate_log_probs,
        f"{ROLLOUT}.calculate_log_probs",
        False,
        "true: the drift between rollout and trainer is checked with them",
    )
    yield (
        rollout.logprobs_mode != "raw_logprobs",
        f"{ROLLOUT}.logprobs_mode",
        rollout.logprobs_mode,
        "'raw_logprobs': the trainer's log-probabilities are at temperature 1 too",
    )
    extension = rollout.engine_kwargs.vllm.worker_extension_cls
    yield (
        extension != WORKER_EXTENSION,
        f"{ROLLOUT}.engine_kwargs.vllm.worker_extension_cls",
        extension,
        f"{WORKER_EXTENSION!r}: student and vLLM must name the same socket",
    )
    yield (
        config.vaopd.seed_rollouts and config.trainer.device == "cpu" and rollout.enable_chunked_prefill,
        f"{ROLLOUT}.enable_chunked_prefill",
        True,
        "false with vaopd.seed_rollouts: vLLM's CPU engine ends on seeded requests with chunked prefill",
    )


def _devices(config) -> Iterator[Refusal]:
    """What is spread over devices must divide them: else verl's workers end, or leave devices idle."""
    trainer, rollout, teacher = config.trainer, config.actor_rollout_ref.rollout, config.vaopd.teacher
    here = trainer.n_gpus_per_node
    world, replica = trainer.nnodes * here, 1
    for name in ("tensor_model_parallel_size", "pipeline_model_parallel_size", "data_parallel_size"):
        size = rollout[name]
        replica *= size if is_whole(size) and size > 0 else 0
        spread = replica > 0 and world % replica == 0 and (here % replica == 0 or replica % here == 0)
        yield (
            not spread,
            f"{ROLLOUT}.{name}",
            size,
            f"such that vLLM's replica ({replica} devices) divides the {world} devices, and those of a node ({here})",
        )
    colocated = teacher.placement == "colocated"
    for name, size, devices in (
        (f"{ACTOR}.fsdp_config.fsdp_size", config.actor_rollout_ref.actor.fsdp_config.fsdp_size, world),
        (
            "vaopd.teacher.fsdp_size",
            teacher.fsdp_size,
            world if colocated else teacher.nnodes * teacher.n_gpus_per_node,
        ),
    ):
        yield (
            size > 0 and size < devices and devices % size,
            name,
            size,
            f"a divisor of the {devices} devices, or -1: all",
        )


def _trainer(config) -> Iterator[Refusal]:
    v1, modes = config.trainer.v1, ("sync", "colocate_async")
    yield v1.trainer_mode not in modes, "trainer.v1.trainer_mode", v1.trainer_mode, f"one of {modes}"
    ahead, bound = v1.colocate_async.num_warmup_batches, v1.sampler.max_off_policy_threshold
    name = "trainer.v1.colocate_async.num_warmup_batches"
    yield not is_whole(ahead) or ahead < 0, name, ahead, "a whole number of batches, 0 or more"
    name = "trainer.v1.sampler.max_off_policy_threshold"
    wanted = "a whole number of steps, 1 or more, or null: no bound"
    yield bound is not None and not (is_whole(bound) and bound > 0), name, bound, wanted
    strategy = v1.sampler.max_off_policy_strategy
    name = "trainer.v1.sampler.max_off_policy_strategy"
    yield strategy != "wait", name, strategy, "'wait': 'drop' throws finished rollouts away"
    trainer = config.trainer
    modes = ("auto", "disable", "resume_path")
    yield trainer.resume_mode not in modes, "trainer.resume_mode", trainer.resume_mode, f"one of {modes}"
    path = trainer.resume_from_path
    named = isinstance(path, str) and re.search(r"global_step_\d+$", path) is not None
    yield (
        trainer.resume_mode == "resume_path" and not named,
        "trainer.resume_from_path",
        path,
        "the folder global_step_N of a checkpoint, with trainer.resume_mode=resume_path",
    )
