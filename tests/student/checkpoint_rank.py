"""One rank that saves a student's checkpoint and loads the one of another number of ranks.

Run by test_checkpoint.py: python -m tests.student.checkpoint_rank RANK WORLD FOLDER
"""

import os
import sys
import time
from pathlib import Path

os.environ["VERL_PLATFORM"] = "cpu"

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor
from verl.trainer.config import CheckpointConfig
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig

from verl_vaopd.student.engine import StudentEngine

FP32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


WHOLE = ("model", "optimizer", "extra", "hf_model")


def build(folder: Path, save_contents=WHOLE) -> StudentEngine:
    """With AdamW and a schedule that no two steps share."""
    engine = StudentEngine(
        HFModelConfig(path=f"{folder}/student", override_config={"attn_implementation": "sdpa"}),
        FSDPEngineConfig(strategy="fsdp2", model_dtype="fp32", mixed_precision=FP32, use_torch_compile=False),
        FSDPOptimizerConfig(  # no clipping: the norm's rounding hangs on the ranks
            lr=1e-2, lr_scheduler_type="cosine", lr_warmup_steps=2, total_training_steps=9, clip_grad=1e9
        ),
        CheckpointConfig(save_contents=list(save_contents)),
    )
    engine.initialize()
    return engine


def step(engine: StudentEngine, number: int) -> float:
    """An optimiser step on gradients that hang on ``number`` and the parameter alone. Returns the learning rate."""
    for place, parameter in enumerate(engine.module.parameters()):
        generator = torch.Generator().manual_seed(1000 * number + place)
        gradient = torch.randn(parameter.shape, generator=generator) / parameter.numel() ** 0.5
        if isinstance(parameter, DTensor):
            gradient = distribute_tensor(gradient, parameter.device_mesh, parameter.placements)
        parameter.grad = gradient
    engine.optimizer_step()
    return engine.lr_scheduler_step()


def state(engine: StudentEngine) -> dict[str, torch.Tensor]:
    return {name: parameter.full_tensor().clone() for name, parameter in engine.module.named_parameters()}


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo", init_method=f"file://{folder}/join_{world}", rank=rank, world_size=world)
    engine = build(folder)
    rates = [step(engine, number) for number in (1, 2, 3)]
    engine.save_checkpoint(f"{folder}/saved_{world}")
    rates.append(step(engine, 4))
    results = {"went on": state(engine)}
    if rank == 0:
        (folder / f"saved_{world}" / "complete").touch()
    other = folder / f"saved_{3 - world}"
    while not (other / "complete").exists():
        time.sleep(0.1)
    fresh = build(folder)
    fresh.load_checkpoint(str(other), del_local_after_load=False)
    results["loaded"] = state(fresh)
    rates.append(step(fresh, 4))
    results["resumed"] = state(fresh)
    if rank == 0:
        torch.save({**results, "rates": rates}, folder / f"results_{world}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
