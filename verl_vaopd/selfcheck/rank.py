"""One rank of the checks that need engines: ``python -m verl_vaopd.selfcheck.rank RANK WORLD WORLDS DEVICE FOLDER``."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from verl_vaopd.selfcheck.check import Check, guarded, not_checked


def checks(world: int, worlds: list[int], device: str, folder: Path) -> Iterator[Check]:
    """Those of one rank run where the world is one; resuming needs two worlds."""
    from verl_vaopd.selfcheck import memory, resume, steps

    if len(worlds) > 1:
        yield from guarded("resume", partial(resume.checks, folder, worlds))
    else:
        yield not_checked("resume on another number of ranks", "one GPU")
    if world == 1:
        yield from guarded("engines", partial(steps.checks, folder, "bf16" if device == "cuda" else "fp32"))
        yield from guarded(memory.NAME, partial(memory.checks, folder, device))


def main(rank: int, world: int, worlds: list[int], device: str, folder: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    os.environ["MASTER_PORT"] = "0"  # read, unused
    if device == "cuda":
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        init_method=f"file://{folder}/join_{world}",
        rank=rank,
        world_size=world,
    )
    done = [asdict(check) for check in checks(world, worlds, device, folder)]
    (folder / f"checks_{world}_{rank}.json").write_text(json.dumps(done))
    dist.destroy_process_group()


if __name__ == "__main__":
    _, own, size, sizes, kind, place = sys.argv
    main(int(own), int(size), [int(n) for n in sizes.split(",")], kind, Path(place))
