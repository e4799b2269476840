"""One rank of a student whose last rank alone meets numbers that are not finite.

Run by test_faults.py: python -m tests.student.fault_rank RANK WORLD FOLDER
"""

import math
import os
import sys

os.environ["VERL_PLATFORM"] = "cpu"

import torch
import verl.utils.tensordict_utils as tu
from verl.workers.config import ActorConfig
from verl.workers.engine_workers import TrainingWorker

from tests.random_models import VOCAB_SIZE, Prompts
from tests.student.update_path import batch_of, build_student
from tests.student.update_path_settings import FAULTY, TEMPERATURE
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig


def state(worker) -> dict[str, torch.Tensor]:
    found = {name: p.full_tensor().clone() for name, p in worker.engine.module.named_parameters()}
    for place, values in enumerate(worker.engine.optimizer.state_dict()["state"].values()):
        found |= {f"{place}/{name}": getattr(value, "full_tensor", value.clone)() for name, value in values.items()}
    return {name: value.clone() for name, value in found.items()}


def main(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/join", rank=rank, world_size=world)
    worker = build_student(folder, {"lr": 1e-3, "optimizer": "AdamW"})
    config = VAOPDConfig(teacher=TeacherConfig(path=f"{folder}/teacher"), output_dir="x", chunk_size=5)
    actor = ActorConfig(strategy="fsdp2", rollout_n=4, ppo_mini_batch_size=3, ppo_micro_batch_size_per_gpu=1)
    worker.attach_objective(config, VOCAB_SIZE, actor, TEMPERATURE)
    prompts = Prompts()
    worker.engine.vision = prompts.original
    width = worker.engine.teacher_head.shape[1]
    tokens = sum(length for _, _, length in prompts.rows)
    rows = prompts.rows[rank::world]
    lengths = [length for _, _, length in rows]

    def train(fault: str | None) -> dict:
        """One optimiser step; ``fault``: what holds one NaN. Returns its metrics and the state after it."""
        generator = torch.Generator().manual_seed(0)
        columns = {
            "teacher_hidden": [torch.randn(length, width, generator=generator) for length in lengths],
            "token_weights": [torch.full((length,), 1 / tokens) for length in lengths],
            "high_va": [torch.zeros(length) for length in lengths],
            "rollout_log_probs": [torch.zeros(length) for length in lengths],
        }
        faulty = rank == world - 1
        if faulty and fault in columns:
            columns[fault][3][0] = math.nan
        head = worker.engine.teacher_head
        if faulty and fault == "head":
            worker.engine.teacher_head = head.clone().index_fill(0, torch.tensor([5]), math.inf)
        data = batch_of(rows, columns, use_dynamic_bsz=True, mini_batch_size=len(prompts.rows))
        tu.assign_non_tensor(data, dataloader_kwargs={"shuffle": False})
        output = TrainingWorker.train_mini_batch(worker, data)
        worker.engine.teacher_head = head
        metrics = {name: tu.get(output, "metrics")[name] for name in ("loss", "grad_norm")}
        return {"metrics": metrics, "state": state(worker)}

    results = {"first": train(None)}
    for place in FAULTY:
        results[place] = train(place)
    results["last"] = train(None)
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
