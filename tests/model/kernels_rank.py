"""The student's engine under FSDP2, one gloo rank, with every kernel: what it makes in a forward, what it exports.

Run by test_kernels_in_engine.py: python -m tests.model.kernels_rank RANK WORLD FOLDER
"""

import os
import sys
from collections import Counter
from unittest import mock

os.environ["VERL_PLATFORM"] = "cpu"

import torch
from verl.trainer.config import CheckpointConfig
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig

from tests.model.stand_ins import varlen_kernels
from tests.random_models import Prompts
from tests.student.checkpoint_rank import FP32
from verl_vaopd.model import segments
from verl_vaopd.model.kernels import KERNELS
from verl_vaopd.model.row import Row
from verl_vaopd.student.engine import StudentEngine


def build(folder: str, override: dict, kernel: str, asked: list) -> StudentEngine:
    """As on a machine where the setting means ``kernel``; what the engine asks is added to ``asked``."""
    engine = StudentEngine(
        HFModelConfig(path=f"{folder}/student", load_tokenizer=False, override_config=override),
        FSDPEngineConfig(strategy="fsdp2", model_dtype="fp32", mixed_precision=FP32, use_torch_compile=False),
        FSDPOptimizerConfig(lr=0.0, total_training_steps=1),
        CheckpointConfig(save_contents=["model", "optimizer", "extra", "hf_model"]),
    )

    def resolve(*question):
        asked.append(question)
        return kernel

    with mock.patch("verl_vaopd.model.engine.resolve_attention", resolve):
        engine.initialize()
    return engine


def run(engine: StudentEngine) -> dict:
    """A forward and a backward of all prompts, and how often masks and bounds were made."""
    made = Counter()

    def counted(function):
        def wrapper(*args):
            made[function.__name__] += 1
            return function(*args)

        return wrapper

    prompts = Prompts()
    rows = [Row(ids, length, prompts.original.get(uid)) for uid, ids, length in prompts.rows]
    functions = {name: counted(getattr(segments, name)) for name in ("branch_mask", "branch_bounds")}
    with mock.patch.multiple(segments, **functions), engine.train_mode():
        _, logits = engine.run_rows(rows, lambda batch, hidden, head: hidden @ head.t())
        logits.square().mean().backward()
    return {"made": dict(made), "logits": logits.detach()}


def main(folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # read, unused
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/join", rank=0, world_size=1)
    results = {}
    for name in ("unset", *KERNELS):
        override = {} if name == "unset" else {"attn_implementation": name}
        asked = []
        engine = build(folder, override, "sdpa" if name == "unset" else name, asked)
        with varlen_kernels():
            results[name] = run(engine)
            engine.save_checkpoint(f"{folder}/{name}")
            results[name]["after saving"] = run(engine)["logits"]
        config = engine.module.config
        names = config.text_config._attn_implementation, config.vision_config._attn_implementation
        results[name] |= {"asked": asked, "names": names}
    torch.save(results, f"{folder}/results.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[3])
