"""Settings that are read, but not beside every other: one that is set where nothing reads it is refused."""

from omegaconf import DictConfig, OmegaConf

ACTOR = "actor_rollout_ref.actor."
ONE_MODES = {
    "trainer.v1.colocate_async.num_warmup_batches": "colocate_async",
    "trainer.v1.sampler.max_off_policy_strategy": "colocate_async",
    "trainer.v1.sampler.max_off_policy_threshold": "colocate_async",
    "trainer.v1.sampler.sync_refill_failed_groups": "sync",
}
"""Settings that are used, under one ``trainer.v1.trainer_mode`` alone."""
OF_POLICY_GRADIENT = (
    *(f"{ACTOR}{name}" for name in ("clip_ratio", "clip_ratio_low", "clip_ratio_high", "clip_ratio_c")),
    *(f"{ACTOR}{name}" for name in ("loss_agg_mode", "policy_loss.loss_mode")),
    "algorithm.norm_adv_by_std_in_grpo",
)
"""Settings that a loss on the reward alone reads."""
TEACHER = "vaopd.teacher."


def idle(config: DictConfig, policy_gradient: bool) -> dict[str, str]:
    """Setting -> under what nothing follows it, of those that nothing follows in ``config``."""
    trainer, teacher, actor = config.trainer, config.vaopd.teacher, config.actor_rollout_ref.actor
    mode = trainer.v1.trainer_mode
    found = {name: f"trainer.v1.trainer_mode={mode}" for name, its_mode in ONE_MODES.items() if mode != its_mode}
    if trainer.resume_mode != "resume_path":
        found["trainer.resume_from_path"] = f"trainer.resume_mode={trainer.resume_mode}"
    if teacher.placement == "colocated":
        found |= {f"{TEACHER}{name}": f"{TEACHER}placement=colocated" for name in ("nnodes", "n_gpus_per_node")}
    if teacher.use_dynamic_bsz:
        found[f"{TEACHER}micro_batch_size_per_gpu"] = f"{TEACHER}use_dynamic_bsz=true"
    if actor.use_dynamic_bsz:
        found[f"{ACTOR}ppo_micro_batch_size_per_gpu"] = f"{ACTOR}use_dynamic_bsz=true"
    if None not in (actor.clip_ratio_low, actor.clip_ratio_high):
        found[f"{ACTOR}clip_ratio"] = "clip_ratio_low and clip_ratio_high, which say it"
    if not policy_gradient:
        found |= dict.fromkeys(OF_POLICY_GRADIENT, f"vaopd.method={config.vaopd.method}, which learns from no reward")
    return found


def refuse_idle(config: DictConfig, host: DictConfig, policy_gradient: bool) -> None:
    """Refuse settings that differ from those of ``host``, the config that nobody has changed, and that nothing reads
    beside the others.

    Args:
        policy_gradient: whether the method has a loss on the reward.
    Raises:
        ValueError: names the setting and the one that it hangs on.
    """
    for name, under in idle(config, policy_gradient).items():
        value, usual = (OmegaConf.select(each, name) for each in (config, host))
        if name == f"{TEACHER}n_gpus_per_node":
            usual = config.trainer.n_gpus_per_node  # as vaopd_trainer.yaml has it
        if value != usual:
            raise ValueError(f"{name}={value!r}: nothing follows it under {under}; take it out")
