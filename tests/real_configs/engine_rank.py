"""A rank of the engines on models of real widths: teacher's scores under both views, then a step of the student.

Run by test_real_configs.py: python -m tests.real_configs.engine_rank RANK WORLD FOLDER
"""

import gc
import json
import os
import sys

os.environ["VERL_PLATFORM"] = "cpu"

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch.distributed.fsdp import FSDPModule

from tests.real_configs.gradients import GradientErrors
from tests.real_configs.models import IDS, RealPrompts
from tests.real_configs.products import sum_in_float32
from tests.student.update_path import batch_of, build_student, build_teacher
from verl_vaopd.methods import method_of
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig

OVERRIDE = {"attn_implementation": "auto"}
LAYOUT = {"use_dynamic_bsz": False, "micro_batch_size_per_gpu": 3}


def counted(engine) -> dict:
    """Parameters, tied ones once, and what FSDP gathers at a time."""
    units = [name or "root" for name, module in engine.module.named_modules() if isinstance(module, FSDPModule)]
    return {"parameters": sum(p.numel() for p in engine.module.parameters()), "units": units}


def score(case: dict, config: VAOPDConfig, folder: str, mine: list[int], prompts: RealPrompts) -> tuple[dict, list]:
    """Errors against plain transformers, nats; and the hidden states of this rank's rows."""
    teacher = build_teacher(folder, {**case, "override": OVERRIDE})
    teacher.vocab_size, teacher.chunk_size, teacher.method = IDS, None, method_of(config)
    teacher.vision, teacher.degraded = prompts.original, prompts.degraded
    rows = [prompts.rows[index] for index in mine]
    with teacher.eval_mode():
        found = teacher.infer_batch(batch_of(rows, {}, **LAYOUT))["model_output"]
    lengths = [length for _, _, length in prompts.rows]
    errors = {}
    with safe_open(f"{folder}/{case['teacher']}_scores.safetensors", "pt") as f:
        for view, column in (("original", "logp_original"), ("degraded", "logp_pixelated")):
            wanted = f.get_tensor(view).split(lengths)
            got = found[column].unbind()
            errors[view] = torch.cat([(a - wanted[i]).abs() for a, i in zip(got, mine, strict=True)])
    result = {"score_errors": errors, **counted(teacher)}
    return result, [hidden.clone() for hidden in found["teacher_hidden"].unbind()]


def learn(case: dict, config: VAOPDConfig, folder: str, mine: list[int], prompts: RealPrompts, hidden: list) -> dict:
    """A step of Standard OPD, whose weights are known without the scores: gradients against plain transformers."""
    worker = build_student(folder, {**case, "override": OVERRIDE, "checkpointing": True})
    engine = worker.engine
    worker.attach_objective(config, IDS, None, 1.0)
    engine.vision = prompts.original
    rows = [prompts.rows[index] for index in mine]
    lengths = [length for _, _, length in rows]
    columns = {
        "token_weights": [torch.full((n,), 1 / n / len(prompts.rows)) for n in lengths],
        "high_va": [torch.ones(n) for n in lengths],
        "rollout_log_probs": [torch.zeros(n) for n in lengths],
        "teacher_hidden": hidden,
    }
    with engine.train_mode(zero_grad_on_exit=False):
        engine.optimizer_zero_grad()
        output = engine.forward_backward_batch(batch_of(rows, columns, **LAYOUT), None)
    loss = torch.tensor(sum(output["loss"])) / dist.get_world_size()
    dist.all_reduce(loss)
    path = f"{folder}/{case['student']}_gradients.safetensors"
    errors, padded = GradientErrors(path), 0.0
    for name, parameter in engine.module.named_parameters():
        gradient = parameter.grad.full_tensor()
        errors.add(name, gradient)
        if len(gradient) == engine.module.config.text_config.vocab_size:
            padded = max(padded, float(gradient[IDS:].abs().max()))
        parameter.grad = None
    with safe_open(path, "pt") as f:
        wanted_loss = float(f.metadata()["loss"])
    return {
        "loss": float(loss),
        "wanted_loss": wanted_loss,
        "padded_rows": padded,
        **errors.found(),
        **counted(engine),
    }


def main(rank: int, world: int, folder: str) -> None:
    with open(f"{folder}/case.json") as f:
        case = json.load(f)
    torch.set_num_threads(1)
    sum_in_float32()
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # read, unused
    dist.init_process_group("gloo", init_method=f"file://{folder}/join", rank=rank, world_size=world)
    prompts = RealPrompts()
    mine = list(range(rank, len(prompts.rows), world))  # siblings sit on both ranks
    settings = TeacherConfig(path=f"{folder}/{case['teacher']}", dtype=case["dtype"])
    config = VAOPDConfig(method="opd", teacher=settings, output_dir="x")
    teacher, hidden = score(case, config, folder, mine, prompts)
    gc.collect()
    results = {"teacher": teacher}
    if case["student"]:
        results["student"] = learn(case, config, folder, mine, prompts, hidden)
    torch.save(results, f"{folder}/engine_{rank}_of_{world}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
