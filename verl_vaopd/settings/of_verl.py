"""Every setting of verl's, sorted: used, harmless, or refused since nothing of a run would follow it.

A pattern is a name of a setting; ``*`` stands for whatever follows. Of several that match, the longest counts.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache

from omegaconf import DictConfig, OmegaConf

ACTOR, MODEL, ROLLOUT = "actor_rollout_ref.actor.", "actor_rollout_ref.model.", "actor_rollout_ref.rollout."

USED = (
    "data.*",
    "actor_rollout_ref.*",
    "reward.*",
    "custom_reward_function.*",  # verl's older name of reward.custom_reward_function
    "trainer.*",
    "transfer_queue.*",
    "ray_kwargs.*",
    "global_profiler.*",
    "skip.*",
    "algorithm.norm_adv_by_std_in_grpo",
    ACTOR + "policy_loss.loss_mode",  # GRPO and PAPO refuse all but one
)

HARMLESS = (  # names of verl's dataclasses, and what says nothing of a run's results
    "*._target_",
    "model_engine",
    "algorithm.use_kl_in_reward",  # looked at beside this list: it must be false
    "actor_rollout_ref.nccl_timeout",
    "transfer_queue.backend.MooncakeStore*",
    "transfer_queue.metrics*",
    "trainer.ray_wait_register_center_timeout",
    "data.video_key",
    "data.audio_key",
    "data.return_raw_input_ids",
    "data.reward_fn_key",
    ROLLOUT + "prometheus.*",
    ROLLOUT + "engine_kwargs.sglang",
    ROLLOUT + "engine_kwargs.trtllm",
    ACTOR + "fsdp_config.turbo_config.*",
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
    "trainer.v1.colocate_async*": "trainer.v1.trainer_mode is sync",
    "trainer.v1.separate_async*": "trainer.v1.trainer_mode is sync",
    "trainer.v1.sampler.max_off_policy*": "trainer.v1.trainer_mode is sync: rollouts are of the current student",
    "trainer.log_val_generations": "trackers are given heat maps (docs/tracking.md), rollouts/ has held-out answers",
    "trainer.esi_redundant_time": "verl's trainer does not read it; Slurm's time limit is seen to by scripts/slurm",
    "trainer.checkpoint_callback_class": "verl's trainer does not read it",
    "data.tokenizer": "the student's folder has it (actor_rollout_ref.model.path)",
    "data.filter_overlong_prompts_workers": "no row is dropped (data.filter_overlong_prompts)",
    "data.gen_batch_size": "a step samples data.train_batch_size prompts",
    MODEL + "lora*": "all weights of the student are trained; adapters are not supported yet",
    MODEL + "target_modules": "all weights of the student are trained; adapters are not supported yet",
    MODEL + "exclude_modules": "all weights of the student are trained; adapters are not supported yet",
    MODEL + "hf_config_path": "the config is that of actor_rollout_ref.model.path",
    MODEL + "use_liger": "it would replace the layers that student and teacher share",
    MODEL + "use_fused_kernels": "the loss is fused already (vaopd.chunk_size)",
    MODEL + "fused_kernel_options*": "the loss is fused already (vaopd.chunk_size)",
    MODEL + "tiled_mlp*": "it would replace the layers that student and teacher share",
    MODEL + "mtp*": "the models have no heads for several tokens",
    ROLLOUT + "mtp*": "the models have no heads for several tokens",
    ACTOR + "freeze_vision_tower": "all weights of the student are trained; freezing is not supported yet",
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
    ACTOR + "fsdp_config.forward_only": "the student is trained",
    ACTOR + "fsdp_config.strategy": "set actor_rollout_ref.actor.strategy",
    ROLLOUT + "do_sample": "rollouts are sampled (temperature, top_p); val_kwargs.do_sample is that of validations",
    ROLLOUT + "log_prob_*": "log-probabilities come with the update (actor.ppo_max_token_len_per_gpu)",
    ROLLOUT + "over_sample_rate": "every rollout is used",
    ROLLOUT + "multi_stage_wake_up": "it belongs to sglang; rollouts are vLLM's",
    ROLLOUT + "router_config_path": "verl's trainer does not read it",
    ROLLOUT + "multi_turn*": "an answer is one turn",
    ROLLOUT + "layered_summon": "it belongs to adapters, which are not supported yet",
    ROLLOUT + "agent.custom_async_server*": "verl's trainer does not read it",
    ROLLOUT + "agent.default_agent_loop": "agent.agent_loop_manager_class makes the answers",
    ROLLOUT + "agent.agent_loop_config_path": "agent.agent_loop_manager_class makes the answers",
    ROLLOUT + "moe_load_balance_metrics_interval": "the models have no experts",
    ROLLOUT + "enable_rollout_routing_replay": "the models have no experts",
    ROLLOUT + "expert_parallel_size": "the models have no experts",
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
    kinds = (("used", USED), ("harmless", HARMLESS), ("refused", REFUSED))
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
        if not name.startswith("vaopd.") and kind_of(name) == "refused" and value != given.get(name):
            raise ValueError(f"{name}={value!r}: nothing here follows it; take it out: {REFUSED[_longest(name)[0]]}")
