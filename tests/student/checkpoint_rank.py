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

from tests.random_processors import processor_of
from tests.student.checkpoint_variants import FAMILIES, REACHED_BY_NOTHING, VARIANTS
from verl_vaopd.student.engine import StudentEngine

FP32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


WHOLE = ("model", "optimizer", "extra", "hf_model")


def build(folder: Path, save_contents=WHOLE, frozen=(), student="student", **model) -> StudentEngine:
    """With AdamW and a schedule that no two steps share."""
    engine = StudentEngine(
        HFModelConfig(path=f"{folder}/{student}", override_config={"attn_implementation": "sdpa"}, **model),
        FSDPEngineConfig(strategy="fsdp2", model_dtype="fp32", mixed_precision=FP32, use_torch_compile=False),
        FSDPOptimizerConfig(  # no clipping: the norm's rounding hangs on the ranks
            lr=1e-2, lr_scheduler_type="cosine", lr_warmup_steps=2, total_training_steps=9, clip_grad=1e9
        ),
        CheckpointConfig(save_contents=list(save_contents)),
    )
    engine.frozen = frozen
    engine.initialize()
    return engine


def step(engine: StudentEngine, number: int, unreached=()) -> float:
    """An optimiser step on gradients that hang on ``number`` and the parameter alone. Returns the learning rate.

    ``unreached``: names of parameters that get none.
    """
    for place, (name, parameter) in enumerate(engine.module.named_parameters()):
        if not parameter.requires_grad or name in unreached:
            continue
        generator = torch.Generator().manual_seed(1000 * number + place)
        gradient = torch.randn(parameter.shape, generator=generator) / parameter.numel() ** 0.5
        if isinstance(parameter, DTensor):
            gradient = distribute_tensor(gradient, parameter.device_mesh, parameter.placements)
        if "lora_B" in name:
            gradient *= 10  # it begins at zero
        parameter.grad = gradient
    engine.optimizer_step()
    return engine.lr_scheduler_step()


def state(engine: StudentEngine) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().full_tensor().clone() for name, parameter in engine.module.named_parameters()}


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo", init_method=f"file://{folder}/join_{world}", rank=rank, world_size=world)
    results = {variant: run(rank, world, folder, variant) for variant in VARIANTS}
    results |= {family: hand_over(rank, world, folder, family) for family in FAMILIES}
    if rank == 0:
        torch.save(results, folder / f"results_{world}.pt")
    dist.destroy_process_group()


def run(rank: int, world: int, folder: Path, variant: str) -> dict:
    engine, unreached = build(folder, **VARIANTS[variant]), REACHED_BY_NOTHING[variant]
    results = {
        "before": state(engine),
        "trained": [name for name, p in engine.module.named_parameters() if p.requires_grad],
    }
    rates = [step(engine, number, unreached) for number in (1, 2, 3)]
    saved = folder / f"{variant}_{world}"
    engine.save_checkpoint(str(saved))
    results["saved"] = state(engine)
    results["sent"] = {name: each.detach().clone() for name, each in engine.get_per_tensor_param()[0]}
    rates.append(step(engine, 4, unreached))
    results["went on"] = state(engine)
    if rank == 0:
        (saved / "complete").touch()
    other = folder / f"{variant}_{3 - world}"
    wait_for(other)
    fresh = build(folder, **VARIANTS[variant])
    fresh.load_checkpoint(str(other), del_local_after_load=False)
    results["loaded"] = state(fresh)
    rates.append(step(fresh, 4, unreached))
    moments = sum(len(values) for values in fresh.optimizer.state.values())
    return {**results, "resumed": state(fresh), "rates": rates, "optimizer": moments}


def hand_over(rank: int, world: int, folder: Path, family: str) -> dict:
    """Two ranks save after two steps and make a third; one makes it from their checkpoint."""
    engine = build(folder, student=family, load_tokenizer=False, processor=processor_of(family))
    saved = folder / f"{family}_2"
    if world == 2:
        for number in (1, 2):  # the first has a learning rate of zero
            step(engine, number)
        engine.save_checkpoint(str(saved))
        if rank == 0:
            (saved / "complete").touch()
    else:
        wait_for(saved)
        engine.load_checkpoint(str(saved), del_local_after_load=False)
    results = {"weights": state(engine), "moments": moments(engine)}
    results["rate"] = step(engine, 3)
    return {**results, "next": state(engine)}


def moments(engine: StudentEngine) -> dict[str, torch.Tensor]:
    """Both of AdamW's, by parameter."""
    return {
        f"{name}, {kind}": engine.optimizer.state[parameter][kind].full_tensor().clone()
        for name, parameter in engine.module.named_parameters()
        if parameter.requires_grad
        for kind in ("exp_avg", "exp_avg_sq")
    }


def wait_for(saved: Path) -> None:
    while not (saved / "complete").exists():
        time.sleep(0.1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
