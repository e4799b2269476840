"""verl's SFT config for a run of this package: same model, optimiser, batch and number of updates."""

import os

from omegaconf import DictConfig, OmegaConf

from verl_vaopd.settings.trained import frozen_parts


def sft_config(config, steps: int) -> DictConfig:
    """The config of ``verl.trainer.sft_trainer`` whose every training setting is that of the run.

    Args:
        config: the run's, resolved or not; steps: optimiser steps, those that a run of another method would make.
    Returns:
        A batch has ``train_batch_size`` x ``rollout.n`` answers, as many as the student's own rollouts would be.
    Raises:
        ValueError: more than one node.
    """
    from hydra import compose, initialize_config_module

    if config.trainer.nnodes != 1:
        raise ValueError(f"trainer.nnodes={config.trainer.nnodes}: must be 1 with vaopd.method=cot_sft")
    run = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    actor, output_dir = run.actor_rollout_ref.actor, run.vaopd.output_dir
    with initialize_config_module("verl.trainer.config", version_base=None):
        sft = compose("sft_trainer_engine")
    OmegaConf.set_struct(sft, False)
    sft.model, sft.optim, sft.checkpoint = run.actor_rollout_ref.model, actor.optim, actor.checkpoint
    sft.model.override_config.vaopd_layout = run.vaopd.layout  # the engine takes it back out
    sft.engine = {
        **actor.fsdp_config,
        "strategy": actor.strategy,
        "ulysses_sequence_parallel_size": actor.ulysses_sequence_parallel_size,
    }
    sft.data.update(
        {
            "train_files": run.data.train_files,
            "train_batch_size": run.data.train_batch_size * run.actor_rollout_ref.rollout.n,
            "use_dynamic_bsz": actor.use_dynamic_bsz,
            "max_token_len_per_gpu": actor.ppo_max_token_len_per_gpu,
            "micro_batch_size_per_gpu": actor.ppo_micro_batch_size_per_gpu,
            "num_workers": run.data.dataloader_num_workers,
            "custom_cls": {"path": "pkg://verl_vaopd.sft.dataset", "name": "RightAnswers"},
            "answers": run.vaopd.answers,
            "prompts": run.data,
        }
    )
    sft.trainer.update(
        {
            "default_local_dir": os.path.join(output_dir, "sft"),
            "experiment_name": run.trainer.experiment_name,
            "project_name": run.trainer.project_name,
            "logger": [],
            "total_training_steps": steps,
            "total_epochs": 2 * steps,  # steps decide; the host resumes at an epoch's end with an epoch of no batch
            "save_freq": run.trainer.save_freq,
            "test_freq": -1,  # the student is validated as those of the other methods are
            "max_ckpt_to_keep": run.trainer.max_actor_ckpt_to_keep,
            "device": run.trainer.device,
            "n_gpus_per_node": run.trainer.n_gpus_per_node,
        }
    )
    frozen = list(frozen_parts(run.vaopd.freeze, actor))
    sft.vaopd = {"output_dir": output_dir, "vocab_chunk_size": run.vaopd.chunk_size, "frozen": frozen}
    return sft
