"""Both engines' whole step, teacher's and student's micro-batches, on pretended CUDA and on the CPU; results to a file.

Run by test_steps.py: python -m tests.pretend.step RANK WORLD FOLDER
"""

import contextlib
import json
import os
import sys
from collections import Counter
from types import SimpleNamespace
from unittest import mock

import torch

os.environ["VERL_PLATFORM"] = "cpu"

from verl.workers.config import ActorConfig

from tests.pretend.backward import backward
from tests.pretend.cuda import WAITS, CudaTensor, move_to_cuda, pretend_cuda
from tests.pretend.kernels import CALLS, gpu_kernels
from tests.random_models import VOCAB_SIZE, Prompts, load
from tests.student.update_path import HOST, batch_of
from tests.student.update_path_settings import REWARDS, TEMPERATURE
from verl_vaopd.methods import Step, method_of
from verl_vaopd.methods.interface.checked import checked
from verl_vaopd.model.families import family_of
from verl_vaopd.model.forward import install_forward
from verl_vaopd.platform.cpu import PlatformCPU
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.student.engine import StudentEngine
from verl_vaopd.teacher.engine import TeacherEngine
from verl_vaopd.trainer.columns import pad_rows
from verl_vaopd.trainer.workers import StudentTrainingWorker

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def build(cls, path: str, case: dict, on_gpu: bool):
    """An engine with its module as FSDP would show it to a layer: gathered, in the compute dtype."""
    engine = object.__new__(cls)
    dtype = DTYPES[case["dtype"]]
    module = load(path, dtype=dtype)
    if cls is TeacherEngine:
        module.requires_grad_(False).eval()
    else:
        module.train()
        if case["checkpointing"]:  # as the host; the state of a generator that is not there is left alone
            module.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    install_forward(module, family_of(module.config), case["kernel"] if on_gpu else "sdpa")
    if on_gpu:
        move_to_cuda(module)
    engine.module, engine.family, engine._autocast_dtype = module, family_of(module.config), dtype
    engine.layout, engine.model_config = "packed", SimpleNamespace(processor=None)
    engine.ulysses_sequence_parallel_size, engine.ulysses_parallel_group = 1, None
    engine.get_data_parallel_size = lambda: 1
    engine.get_data_parallel_group = lambda: torch.distributed.group.WORLD
    engine._gradient_sync_context = lambda is_last_micro_batch: contextlib.nullcontext()
    engine.vocab_size, engine.chunk_size = VOCAB_SIZE, None
    return engine


class CountedWaits:
    """Waits for the device in each forward and each backward of a step, between them, and in all."""

    def __init__(self, engine):
        self.forwards, self.backwards, self.between = [], [], Counter()
        self.forward_step, engine.forward_step = engine.forward_step, self._forward
        WAITS.clear()
        self.last = None

    def _forward(self, *args):
        before = WAITS.copy()
        self.between += before - (before if self.last is None else self.last)
        loss, output = self.forward_step(*args)
        self.last = WAITS.copy()
        self.forwards.append(dict(self.last - before))
        return loss, output

    def backward(self, loss: torch.Tensor) -> None:
        before = WAITS.copy()
        backward(loss) if isinstance(loss, CudaTensor) else torch.autograd.backward(loss)
        self.last = WAITS.copy()
        self.backwards.append(dict(self.last - before))

    def found(self) -> dict:
        return {
            "forwards": self.forwards,
            "backwards": self.backwards,
            "between": dict(self.between),
            "all": dict(WAITS),
        }


def plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.elem if isinstance(tensor, CudaTensor) else tensor


def run(case: dict, folder: str, on_gpu: bool) -> dict:
    prompts = Prompts(response_lengths=case["response_lengths"], family=case["family"])
    rows = [row for row in prompts.rows if row[0] in case["prompts"]]
    lengths = [length for _, _, length in rows]
    layout = {"use_dynamic_bsz": case["micro_batch"] is None, "micro_batch_size_per_gpu": case["micro_batch"] or 1}
    teacher_path = f"{folder}/{case['family']}_teacher"
    config = VAOPDConfig(teacher=TeacherConfig(path=teacher_path), output_dir="x", **case["settings"])
    method = method_of(config)
    result, waits = {"devices": {}, "dtypes": {}}, {}

    # Teacher.
    scored = {}
    if method.teacher_views:
        teacher = build(TeacherEngine, teacher_path, case, on_gpu)
        teacher.method, teacher.vision, teacher.degraded = method, prompts.original, prompts.degraded
        counted = CountedWaits(teacher)
        output = teacher.forward_backward_batch(batch_of(rows, {}, **layout), None, forward_only=True)
        waits["teacher"] = counted.found()
        scored = {name: list(values.unbind()) for name, values in output["model_output"].items()}
    for name, values in scored.items():
        result["devices"][name], result["dtypes"][name] = str(values[0].device), values[0].dtype
    result["scores"] = {name: [plain(row) for row in scored[name]] for name in method.score_names}

    # Driver, in host memory.
    mask = pad_rows(torch.nested.as_nested_tensor([torch.ones(n) for n in lengths], layout=torch.jagged)).bool()
    rewards = torch.zeros(mask.shape)
    rewards[:, 0] = torch.tensor(REWARDS[: len(rows)])
    read = {"rm_scores": rewards}
    for name, values in result["scores"].items():
        read[name] = pad_rows(torch.nested.as_nested_tensor(values, layout=torch.jagged))
    step = Step({name: read[name] for name in method.reads}, mask, [uid for uid, _, _ in rows], HOST)
    actor = ActorConfig(strategy="fsdp2", rollout_n=4, ppo_mini_batch_size=3, ppo_micro_batch_size_per_gpu=1)
    weighed = checked(method, method.weigh(step), step, method.objective(actor, TEMPERATURE))
    columns = {
        name: [row[:n] for row, n in zip(values.float(), lengths, strict=True)]
        for name, values in weighed.student.items()
    }
    columns["rollout_log_probs"] = [torch.zeros(n) for n in lengths]
    if method.teacher_hidden:
        columns["teacher_hidden"] = scored["teacher_hidden"]  # handed over in the process: stays where it is

    # Student.
    worker = object.__new__(StudentTrainingWorker)
    worker.engine = engine = build(StudentEngine, f"{folder}/{case['family']}_student", case, on_gpu)
    worker.attach_objective(config, VOCAB_SIZE, actor, TEMPERATURE)
    engine.vision = prompts.degraded if method.shows_second_view else prompts.original
    engine.second_view = prompts.degraded if engine.views == 2 else {}
    data = batch_of(rows, columns, **layout)
    counted = CountedWaits(engine)
    with mock.patch.object(torch.Tensor, "backward", lambda loss: counted.backward(loss)):
        output = engine.forward_backward_batch(data, None)
    waits["student"] = counted.found()
    gradients = {name: p.grad for name, p in engine.module.named_parameters() if p.grad is not None}
    return {
        **result,
        "waits": waits,
        "loss": sum(output["loss"]),
        "metrics": {name: sum(metric.values) for name, metric in output["metrics"].items()},
        "gradient_devices": {str(gradient.device) for gradient in gradients.values()},
        "gradient_dtypes": {gradient.dtype for gradient in gradients.values()},
        "gradients": {name: plain(gradient).float() for name, gradient in gradients.items()},
    }


def on_pretended_gpu(case: dict, folder: str) -> dict:
    CALLS.clear()
    with (
        mock.patch.object(PlatformCPU, "current_device", lambda self: 0),
        mock.patch.object(PlatformCPU, "device_name", "cuda"),
        gpu_kernels(),
        pretend_cuda(),
    ):
        return {**run(case, folder, on_gpu=True), "calls": dict(CALLS)}


def main(folder: str) -> None:
    with open(f"{folder}/cases.json") as f:
        cases = json.load(f)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    results, on_cpu = {}, {}
    for name, case in cases.items():
        key = json.dumps({**case, "kernel": None})
        if key not in on_cpu:
            on_cpu[key] = run(case, folder, on_gpu=False)
        results[name] = {"cpu": on_cpu[key], "gpu": on_pretended_gpu(case, folder)}
    torch.save(results, f"{folder}/results.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[3])
