"""One step of each method through both engines; two views in one forward; a student that is its own teacher."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from omegaconf import OmegaConf
from transformers import AutoConfig

from verl_vaopd.methods import Step, method_names, method_of
from verl_vaopd.methods.interface.checked import checked
from verl_vaopd.model.by_hand import batch_of, nested
from verl_vaopd.selfcheck.check import FAILED, OK, Check, at_most, guarded, not_checked
from verl_vaopd.selfcheck.engines import actor, build_student, build_teacher
from verl_vaopd.selfcheck.prompts import BUDGET, Prompts
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.tiny.tokenizer import make_tokenizer
from verl_vaopd.trainer.columns import pad_rows

HOST = OmegaConf.create(  # verl's settings that a policy gradient goes by
    {
        "actor_rollout_ref": {"actor": {"loss_agg_mode": "token-mean"}},
        "algorithm": {"norm_adv_by_std_in_grpo": True},
    }
)
TEMPERATURE = 0.7
VIEW_LIMIT = {"fp32": 1e-4, "bf16": 0.1}  # nats of one token
ZERO_LIMIT = {"fp32": 1e-5, "bf16": 1e-2}  # nats a token, on average


class Bench:
    """Both engines and their rollouts. ``folder`` holds ``student`` and ``teacher``."""

    def __init__(self, folder: Path, dtype: str):
        self.folder, self.dtype = folder, dtype
        self.prompts = Prompts(AutoConfig.from_pretrained(folder / "student"))
        self.vocab_size = len(make_tokenizer())
        self.student = build_student(folder / "student", dtype)
        self.teacher = build_teacher(folder / "teacher", dtype)

    def config(self, method: str, teacher: str = "teacher") -> VAOPDConfig:
        return VAOPDConfig(
            teacher=TeacherConfig(path=str(self.folder / teacher)), output_dir="x", method=method, answers="x"
        )

    def score(self, teacher, method, vision: dict, degraded: dict) -> dict[str, list[torch.Tensor]]:
        """Column -> a tensor per row."""
        teacher.method, teacher.vision, teacher.degraded = method, vision, degraded
        teacher.vocab_size, teacher.chunk_size = self.vocab_size, None
        with teacher.eval_mode():
            output = teacher.infer_batch(batch_of(self.prompts.rows, {}, BUDGET))["model_output"]
        return {name: list(values.cpu().unbind()) for name, values in output.items()}

    def step(self, config: VAOPDConfig, teacher) -> tuple[float, float]:
        """Loss before, and gradient norm of, one update by the config's method."""
        prompts, method = self.prompts, method_of(config)
        reader = method if method.teacher_views else method_of(replace(config, method="vaopd"))
        scores = self.score(teacher, reader, prompts.original, prompts.degraded)
        mask = pad_rows(nested(torch.ones(length, dtype=torch.long) for _, _, length in prompts.rows)).bool()
        rewards = torch.zeros(mask.shape)
        rewards[::2, 0] = 1.0
        read = {name: pad_rows(nested(scores[name])) for name in reader.score_names} | {"rm_scores": rewards}
        step = Step({name: read[name] for name in method.reads}, mask, [uid for uid, _, _ in prompts.rows], HOST)
        if method.learns_by == "fine_tuning":  # each token alike, as sft/ weighs them
            student = {"token_weights": mask / mask.sum()}
        else:
            student = checked(method, method.weigh(step), step, method.objective(actor(), TEMPERATURE)).student
        lengths = [length for _, _, length in prompts.rows]
        columns = {
            name: [row[:length] for row, length in zip(values.float(), lengths, strict=True)]
            for name, values in student.items()
        }
        columns["rollout_log_probs"] = [torch.zeros(length) for length in lengths]
        if method.teacher_hidden:
            columns["teacher_hidden"] = scores["teacher_hidden"]
        self.student.attach_objective(config, self.vocab_size, actor(), TEMPERATURE)
        engine = self.student.engine
        engine.vision = prompts.degraded if method.shows_second_view else prompts.original
        engine.second_view = prompts.degraded if engine.views == 2 else {}
        with engine.train_mode():
            engine.optimizer_zero_grad()
            output = engine.forward_backward_batch(batch_of(prompts.rows, columns, BUDGET), None)
            norm = engine.optimizer_step()
        return float(sum(output["loss"])), float(norm)


def views(bench: Bench) -> Iterator[Check]:
    """Both views packed into one forward, and each in a forward of its own."""
    method, images = method_of(bench.config("vaopd")), bench.prompts
    both = bench.score(bench.teacher, method, images.original, images.degraded)
    original, degraded = method.score_names[:2]
    errors = []
    for name, vision in ((original, images.original), (degraded, images.degraded)):
        alone = bench.score(bench.teacher, method, vision, {})[original]
        seen = [place for place, (uid, _, _) in enumerate(images.rows) if uid in vision]
        errors += [(both[name][i] - alone[i]).abs().max() for i in seen]
    yield at_most(
        "two views in one forward", torch.stack(errors).max(), VIEW_LIMIT[bench.dtype], "nats", "against two forwards"
    )


def zero(bench: Bench) -> Iterator[Check]:
    """Before any update: the student's own weights as the teacher."""
    twin = build_teacher(bench.folder / "student", bench.dtype)
    loss, _ = bench.step(bench.config("opd", "student"), twin)
    yield at_most("student is its own teacher: loss", abs(loss), ZERO_LIMIT[bench.dtype], "nats", bench.dtype)


def one_step(bench: Bench, method: str) -> Iterator[Check]:
    if method_of(bench.config(method)).learns_by == "nothing":
        yield not_checked(f"one step of {method}", "it trains nothing")
        return
    loss, norm = bench.step(bench.config(method), bench.teacher)
    moved = math.isfinite(loss) and math.isfinite(norm) and norm > 0
    yield Check(
        f"one step of {method}", loss, "loss", verdict=OK if moved else FAILED, note=f"gradient norm {norm:.3g}"
    )


def checks(folder: Path, dtype: str) -> Iterator[Check]:
    bench = Bench(folder, dtype)
    yield from guarded("two views in one forward", partial(views, bench))
    yield from guarded("student is its own teacher", partial(zero, bench))
    for method in method_names():
        yield from guarded(f"one step of {method}", partial(one_step, bench, method))
