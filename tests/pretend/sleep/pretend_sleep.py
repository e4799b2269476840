"""Sleep and wake-up for vLLM's CPU worker, which has none: what a GPU's pool discards is NaN here, not merely perhaps.

A plugin of vLLM's (group ``vllm.general_plugins``): every process of an engine loads it. As on a GPU, after level 2 the
registered buffers come back and nothing else does: neither weights nor tensors that are plain attributes of a module.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch


def note(event: str) -> None:
    """A line of ``SLEEP_LOG``: when, who, what. Lines this short are appended whole."""
    with Path(os.environ["SLEEP_LOG"]).open("a") as log:
        log.write(f"{time.time():.6f} {os.getpid()} {event}\n")


def plain_tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Tensors that are neither parameter nor buffer, also those in lists."""
    for module in model.modules():
        for value in vars(module).values():
            for each in value if isinstance(value, list | tuple) else (value,):
                if isinstance(each, torch.Tensor):
                    yield each


def discard(model: torch.nn.Module) -> None:
    with torch.inference_mode():
        for tensor in (*model.parameters(), *model.buffers(), *plain_tensors(model)):
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)


def sleep(worker, level: int = 1) -> None:
    assert level == 2, "the weights come anew after every sleep"
    model = worker.model_runner.model
    worker.kept_buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    discard(model)
    for cache in worker.model_runner.kv_caches:
        cache.fill_(torch.nan)
    note("sleep")


def wake_up(worker, tags: list[str] | None = None) -> None:
    for tag in tags or ("weights", "kv_cache"):
        if tag == "weights":  # fresh pages: what came while it slept is lost
            discard(worker.model_runner.model)
            with torch.inference_mode():
                for name, buffer in worker.model_runner.model.named_buffers():
                    buffer.copy_(worker.kept_buffers[name])
        else:
            for cache in worker.model_runner.kv_caches:
                cache.zero_()
        note(f"wake {tag}")


def register() -> None:
    from vllm.v1.worker.cpu_worker import CPUWorker

    CPUWorker.sleep, CPUWorker.wake_up = sleep, wake_up
