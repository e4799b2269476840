"""A checkpoint of one number of ranks, resumed on another: the next step must be bit-equal."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor
from verl.trainer.config import CheckpointConfig
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig

from verl_vaopd.selfcheck.check import Check, at_most
from verl_vaopd.selfcheck.engines import OVERRIDE
from verl_vaopd.student.engine import StudentEngine

FP32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
PATIENCE_S = 540  # a loaded machine; processes.py waits a little longer


def build(student: Path) -> StudentEngine:
    """With AdamW and no clipping, whose norm rounds by the ranks."""
    engine = StudentEngine(
        HFModelConfig(path=str(student), override_config=OVERRIDE),
        FSDPEngineConfig(strategy="fsdp2", model_dtype="fp32", mixed_precision=FP32, use_torch_compile=False),
        FSDPOptimizerConfig(lr=1e-2, lr_scheduler_type="cosine", total_training_steps=9, clip_grad=1e9),
        CheckpointConfig(save_contents=["model", "optimizer", "extra", "hf_model"]),
    )
    engine.initialize()
    return engine


def step(engine: StudentEngine, number: int) -> None:
    """An optimiser step on gradients that hang on ``number`` and the parameter alone."""
    for place, parameter in enumerate(engine.module.parameters()):
        generator = torch.Generator().manual_seed(1000 * number + place)
        gradient = torch.randn(parameter.shape, generator=generator) / parameter.numel() ** 0.5
        gradient = gradient.to(parameter.device)
        if isinstance(parameter, DTensor):
            gradient = distribute_tensor(gradient, parameter.device_mesh, parameter.placements)
        parameter.grad = gradient
    engine.optimizer_step()
    engine.lr_scheduler_step()


def state(engine: StudentEngine) -> dict[str, torch.Tensor]:
    return {name: p.full_tensor().cpu().clone() for name, p in engine.module.named_parameters()}


def checks(folder: Path, worlds: list[int]) -> Iterator[Check]:
    """Runs in every rank of both worlds at once: each saves, and loads what the other saved."""
    world = dist.get_world_size()
    other = next(n for n in worlds if n != world)
    engine = build(folder / "student")
    for number in (1, 2):
        step(engine, number)
    engine.save_checkpoint(str(folder / f"saved_{world}"))
    dist.barrier()
    (folder / f"saved_{world}" / "complete").touch()
    step(engine, 3)
    wanted = state(engine)
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / f"saved_{other}" / "complete").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{other} ranks saved nothing within {PATIENCE_S} s")
        time.sleep(0.1)
    fresh = build(folder / "student")
    fresh.load_checkpoint(str(folder / f"saved_{other}"), del_local_after_load=False)
    step(fresh, 3)
    resumed = state(fresh)
    differ = sum(not torch.equal(resumed[name], wanted[name]) for name in wanted)
    yield at_most(f"saved on {other}, resumed on {world} ranks", differ, 0, "tensors", "that differ a step later")
