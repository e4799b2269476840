"""One rank of a student that saves a checkpoint without its Hugging Face part, after one update.

Run by test_export.py: python -m tests.student.export_rank RANK WORLD FOLDER
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.student.checkpoint_rank import build, state, step


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo", init_method=f"file://{folder}/join", rank=rank, world_size=world)
    engine = build(folder, save_contents=["model", "optimizer", "extra"])
    for number in (1, 2):  # the first has a learning rate of zero
        step(engine, number)
    engine.save_checkpoint(f"{folder}/global_step_2/actor")
    live = state(engine)
    if rank == 0:
        torch.save(live, folder / "live.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
