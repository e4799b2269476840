"""From a recipe to what is planned for it: its settings, the shapes of its models, a usual step."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

from verl_vaopd.costs.assumptions import VA_OPD, Assumptions
from verl_vaopd.costs.devices import Device
from verl_vaopd.costs.published import PUBLISHED
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.costs.step import Step
from verl_vaopd.costs.text import ExpertsTextShape
from verl_vaopd.costs.trained import Learns
from verl_vaopd.costs.workload import Workload
from verl_vaopd.methods import method_of
from verl_vaopd.planning.lengths import Draw
from verl_vaopd.planning.memory import Settings
from verl_vaopd.planning.needs import Needs
from verl_vaopd.planning.replica import Replica
from verl_vaopd.planning.waiting import Forecast, Mode, Simulation, forecast
from verl_vaopd.settings.compose import compose, instantiate
from verl_vaopd.settings.trained import frozen_parts, lora_settings

DATASET_ROWS = {"geometry3k": 2101, "virl39k": 38870}  # training rows, where the file is not here yet
HELD_OUT = 200  # held-out problems of each


def composed(recipe: str, overrides: list[str], **env: str):
    """The config a recipe trains with, its settings not yet looked at.

    Raises:
        ValueError: no such recipe, or one that cannot be composed.
    """
    root = Path(__file__).parents[2]
    path = Path(recipe) if recipe.endswith(".sh") else root / "recipes" / f"{recipe}.sh"
    if not path.is_file():
        there = ", ".join(sorted(each.stem for each in (root / "recipes").glob("vaopd_*.sh")))
        raise ValueError(f"no recipe {recipe}; there are {there}")
    asked = {**os.environ, "VAOPD_PRINT_ARGUMENTS": "1", **env}
    shown = subprocess.run(["bash", path, *overrides], env=asked, capture_output=True, text=True)
    arguments = shown.stdout.splitlines()
    if shown.returncode or arguments[:1] != ["--config-name"]:
        raise ValueError(f"{recipe} does not print its arguments (VAOPD_PRINT_ARGUMENTS=1): {shown.stderr.strip()}")
    config = compose(arguments[1], arguments[2:])
    method_of(instantiate(config)).prepare(config)
    return config


def model_shape(path: str) -> ModelShape:
    """Shape of a checkpoint: from its folder, the hub's cache, what is built in (costs/published.py), or the hub.

    Raises:
        ValueError: no config to be had, or one of a model that has no plan.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import LocalEntryNotFoundError

    if os.path.isdir(path):
        return _read(os.path.join(path, "config.json"))
    try:
        return _read(hf_hub_download(path, "config.json", local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        if path in PUBLISHED:
            return ModelShape.of(PUBLISHED[path])
    try:
        return _read(hf_hub_download(path, "config.json"))
    except (OSError, HFValidationError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is no folder here and its config cannot be had from the hub: {first}") from error


def _read(path: str) -> ModelShape:
    try:
        with open(path) as file:
            return ModelShape.of(json.load(file))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error


def training_rows(config) -> int:
    """Rows of the training data: those of the files, or, not here yet, of the data set that their folder names.

    Raises:
        ValueError: neither.
    """
    import pyarrow.parquet as pq

    files = config.data.train_files
    files = [files] if isinstance(files, str) else list(files)
    if all(os.path.exists(path) for path in files):
        return sum(pq.read_metadata(path).num_rows for path in files)
    names = {Path(path).parent.name for path in files}
    if len(names) == 1 and (name := names.pop()) in DATASET_ROWS:
        return DATASET_ROWS[name]
    raise ValueError(f"data.train_files={files} is not here and its size not known: make it (verl-vaopd data)")


def held_out_problems(config) -> int:
    """Of a validation."""
    return config.data.val_max_samples if config.data.val_max_samples > 0 else HELD_OUT


def learns_of(config, student: ModelShape) -> Learns | None:
    """What of the student is trained; None: everything."""
    from omegaconf import OmegaConf

    own = config.actor_rollout_ref
    frozen = frozen_parts(config.vaopd.freeze, own.actor)
    lora = lora_settings(OmegaConf.to_container(own.model, resolve=True))
    return Learns.of(student, frozen, lora) if frozen or lora else None


def settings(config) -> Settings:
    """What decides memory.

    Raises:
        ValueError: a model that has no plan, or a student with experts.
    """
    import torch

    from verl_vaopd.algorithm import default_chunk_size

    needs = Needs.of(method_of(instantiate(config)))
    actor, rollout, data = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.data
    teacher, fsdp = config.vaopd.teacher, actor.fsdp_config
    gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    colocated = teacher.placement == "colocated"
    longest = data.max_prompt_length + data.max_response_length
    student = model_shape(config.actor_rollout_ref.model.path)
    if isinstance(student.text, ExpertsTextShape):
        path = config.actor_rollout_ref.model.path
        raise ValueError(f"actor_rollout_ref.model.path={path}: a student with experts has no plan; a teacher has")
    if actor.use_dynamic_bsz:
        student_tokens = actor.ppo_max_token_len_per_gpu
    else:
        student_tokens = actor.ppo_micro_batch_size_per_gpu * longest * needs.student_views
    teacher_tokens = teacher.max_token_len_per_gpu
    if not teacher.use_dynamic_bsz:
        teacher_tokens = teacher.micro_batch_size_per_gpu * longest * needs.teacher_views
    return Settings(
        student=student,
        teacher=model_shape(teacher.path),
        gpus=gpus,
        teacher_gpus=gpus if colocated else teacher.nnodes * teacher.n_gpus_per_node,
        colocated=colocated,
        prompts=data.train_batch_size,
        rollouts=rollout.n,
        prompt_limit=data.max_prompt_length,
        response_limit=data.max_response_length,
        student_tokens=student_tokens,
        teacher_tokens=teacher_tokens,
        sequence_parallel=actor.ulysses_sequence_parallel_size,
        checkpointing=config.actor_rollout_ref.model.enable_gradient_checkpointing,
        student_offload=fsdp.param_offload,
        optimizer_offload=fsdp.optimizer_offload,
        teacher_offload=teacher.param_offload,
        tensor_parallel=rollout.tensor_model_parallel_size,
        vllm_share=rollout.gpu_memory_utilization,
        chunk_rows=config.vaopd.chunk_size or default_chunk_size(student.text.vocab_size, dtype=torch.bfloat16),
        sync_bucket=rollout.checkpoint_engine.update_weights_bucket_megabytes * 2**20,
        needs=needs,
        learns=learns_of(config, student),
        held_out=held_out_problems(config) * rollout.val_kwargs.n,
        whole_distributions=config.vaopd.score == "distribution",
    )


def mode_of(config) -> Mode:
    """How a step waits for its rollouts, under settings that a run can have."""
    v1 = config.trainer.v1
    if v1.trainer_mode == "sync":
        return Mode()
    return Mode(v1.colocate_async.num_warmup_batches, v1.sampler.max_off_policy_threshold)


def assumptions_of(plan: Settings) -> Assumptions:
    """The usual ones, with what a recipe sets."""
    return Assumptions(
        vllm_memory=plan.vllm_share,
        micro_batch_tokens=plan.student_tokens,
        teacher_micro_batch_tokens=plan.teacher_tokens,
        sync_bucket=plan.sync_bucket / 2**30,
    )


def waiting_for(plan: Settings, device: Device, workload: Workload, draw: Draw, mode: Mode) -> Forecast:
    """What generation is like over many steps of answers as ``draw`` has them."""
    replica = Replica(
        plan.student, device, assumptions_of(plan), workload.prompt_tokens, workload.image_tokens, plan.tensor_parallel
    )
    replicas = plan.gpus // plan.tensor_parallel
    generator = np.random.default_rng(0)
    return forecast(Simulation(replica, replicas, plan.prompts, plan.rollouts, draw, mode, generator))


def usual_step(plan: Settings, device: Device, workload: Workload, nodes: int, network: float) -> dict[str, float]:
    """Predicted seconds of each phase over a batch of usual lengths; ``network``: bytes/s a GPU has between nodes."""
    if nodes > 1:
        device = replace(device, nvlink=min(device.nvlink, network))
    needs = plan.needs
    implementation = replace(
        VA_OPD,
        teacher_views=needs.teacher_views,
        student_views=needs.student_views,
        shared_prompt=not needs.fine_tunes,
        distils=needs.distils,
        rewarded=needs.rewarded,
        teacher_offload=plan.teacher_offload,
        chunk_rows=plan.chunk_rows,
    )
    assumptions = assumptions_of(plan)
    step = Step(plan.teacher, plan.student, workload, implementation, device, plan.gpus, assumptions, plan.learns)
    on_teacher = replace(step, gpus=plan.teacher_gpus)
    return {
        phase.name: phase.seconds(device, assumptions)
        for each, wanted in ((step, False), (on_teacher, True))
        for phase in each.phases()
        if (phase.name == "teacher") is wanted
    }
