"""This package's student and teacher engines as one rank of one, and an update between them as a run makes it."""

import os
import tempfile

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from verl.trainer.config import CheckpointConfig
from verl.workers.config import (
    ActorConfig,
    FSDPEngineConfig,
    FSDPOptimizerConfig,
    HFModelConfig,
    TrainingWorkerConfig,
)

from verl_vaopd.methods import Step, method_of
from verl_vaopd.methods.interface.checked import checked
from verl_vaopd.model.by_hand import batch_of, nested
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.student.frozen import part_of
from verl_vaopd.study.arms import Regime
from verl_vaopd.study.objective import PARTS, Parted, PartedPolicy
from verl_vaopd.teacher.engine import TeacherEngine
from verl_vaopd.tiny.dilution.truth import visual_tokens
from verl_vaopd.trainer.columns import pad_rows
from verl_vaopd.trainer.workers import StudentTrainingWorker

OVERRIDE = {"attn_implementation": "sdpa"}
ADAPTED = ".*language_model.*_proj"  # the default of actor_rollout_ref.model.target_modules
BUDGET = 4096  # tokens of a micro-batch
HOST = OmegaConf.create(  # verl's settings that a policy gradient goes by
    {
        "actor_rollout_ref": {"actor": {"loss_agg_mode": "token-mean"}},
        "algorithm": {"norm_adv_by_std_in_grpo": True},
    }
)


def one_rank() -> None:
    """Join a process group of one, unless this process is in one."""
    if not dist.is_initialized():
        os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        with tempfile.NamedTemporaryFile() as file:
            dist.init_process_group("gloo", init_method=f"file://{file.name}.join", rank=0, world_size=1)


def build_student(path: str, regime: Regime, rate: float, updates: int) -> StudentTrainingWorker:
    """The real worker with AdamW: a tenth of the updates of warm-up, gradients clipped at 1."""
    worker = StudentTrainingWorker(
        TrainingWorkerConfig(
            model_type="vaopd_student",
            model_config=HFModelConfig(
                path=path,
                load_tokenizer=False,
                override_config=dict(OVERRIDE),
                use_remove_padding=True,
                enable_gradient_checkpointing=False,
                lora_rank=regime.rank,
                target_modules=ADAPTED,
                lora={"merge": True},
            ),
            engine_config=FSDPEngineConfig(
                strategy="fsdp2",
                model_dtype="fp32",
                mixed_precision={"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
                use_torch_compile=False,
            ),
            optimizer_config=FSDPOptimizerConfig(
                lr=rate, lr_warmup_steps_ratio=0.1, total_training_steps=updates, weight_decay=0.0, clip_grad=1.0
            ),
            checkpoint_config=CheckpointConfig(),
        ),
        frozen=regime.freeze,
    )
    worker.reset()
    worker.set_loss_fn(lambda *_, **__: None)  # the host asks for one; the engine has its own
    return worker


def build_teacher(config: VAOPDConfig) -> TeacherEngine:
    model = HFModelConfig(path=config.teacher.path, load_tokenizer=False, override_config=dict(OVERRIDE))
    teacher = TeacherEngine(model, config.teacher.engine_config(), None, CheckpointConfig())
    teacher.initialize()
    return teacher


def shapes(rows: list[tuple]) -> list[tuple]:
    """(uid, ids, response length) of each row."""
    return [row[:3] for row in rows]


class Pair:
    """A student that learns by a method, from a teacher or from rewards.

    rows: (uid, ids, response length, [response length] bool: a misread digit), siblings together.
    """

    def __init__(self, config: VAOPDConfig, teacher: TeacherEngine, student: StudentTrainingWorker, vocab_size: int):
        self.method, self.teacher, self.engine = method_of(config), teacher, student.engine
        actor = ActorConfig(strategy="fsdp2", rollout_n=4, ppo_mini_batch_size=4, ppo_micro_batch_size_per_gpu=1)
        student.attach_objective(config, vocab_size, actor, temperature=1.0)
        grouped = self.method.teacher_views == 2
        self.objective = self.engine.objective
        self.engine.objective = Parted() if self.method.teacher_hidden else PartedPolicy(actor, 1.0, grouped=grouped)
        teacher.method, teacher.vocab_size, teacher.chunk_size = self.method, vocab_size, config.chunk_size

    @property
    def second_view(self):
        """How the teacher's second view of an image is made; None: it looks at none."""
        return self.method.second_view(None, validate=False)

    @property
    def shows_second_view(self) -> bool:
        """Whether the student sees that one."""
        return self.method.shows_second_view

    def update(
        self, rows: list[tuple], rewards: list[float], original: dict, degraded: dict, with_norms: bool
    ) -> dict[str, float]:
        """Score, weigh, step.

        Args:
            rewards: a number a row.
            with_norms: also the gradient norms of the visual tokens' loss and of the others', before the step.
        Returns:
            Sums of :class:`Parted` or :class:`PartedPolicy` over the batch, the method's metrics, ``grad_norm``;
            ``norm/PART/TOKENS``.
        """
        data, metrics = self.weighed(rows, rewards, original, degraded)
        engine, found = self.engine, {}
        engine.vision = degraded if self.shows_second_view else original
        with engine.train_mode():
            for part in PARTS if with_norms else ():
                engine.objective.part = part
                engine.optimizer_zero_grad()
                engine.forward_backward_batch(data, None)
                found |= {f"norm/{name}/{part}": norm for name, norm in self.norms().items()}
            engine.objective.part = None
            engine.optimizer_zero_grad()
            output = engine.forward_backward_batch(data, None)
            found["grad_norm"] = float(engine.optimizer_step())
            found["rate"] = float(engine.lr_scheduler_step())
        sums = {name: sum(value.values) for name, value in output["metrics"].items() if hasattr(value, "values")}
        return {**metrics, **sums, **found}

    def scores(self, rows, original, degraded) -> dict[str, torch.Tensor]:
        """What the teacher says of the rows, nested; nothing where the method has none."""
        teacher = self.teacher
        if not self.method.teacher_views:
            return {}
        teacher.vision, teacher.degraded = original, degraded
        with teacher.eval_mode():
            return teacher.infer_batch(batch_of(shapes(rows), {}, BUDGET))["model_output"]

    def weighed(self, rows, rewards, original, degraded):
        """The student's batch, with one weight a token; metrics of the method."""
        lengths, scores = [row[2] for row in rows], self.scores(rows, original, degraded)
        mask = pad_rows(nested(torch.ones(length, dtype=torch.long) for length in lengths)).bool()
        earned = torch.zeros(mask.shape)
        earned[:, 0] = torch.tensor(rewards)  # a row's reward is the sum over its tokens
        known = {"rm_scores": earned, **{name: pad_rows(scores[name]) for name in self.method.score_names}}
        columns = {name: known[name] for name in self.method.reads}
        ids = [f"{uid}/".encode() + row.numpy().tobytes() for uid, row, *_ in rows]
        step = Step(columns, mask, [row[0] for row in rows], HOST, lambda: ids)
        weighed = checked(self.method, self.method.weigh(step), step, self.objective)
        given = {name: weighed.per_token[name] for name in ("high_va",) if name in weighed.per_token}
        student = {
            name: [row[:length] for row, length in zip(values.float(), lengths, strict=True)]
            for name, values in {**given, **weighed.student}.items()
        }
        student["visual"] = [visual_tokens(row[-length:]).float() for _, row, length, _ in rows]
        student["misread"] = [misread.float() for *_, misread in rows]
        student["rollout_log_probs"] = [torch.zeros(length) for length in lengths]
        if self.method.teacher_hidden:
            student["teacher_hidden"] = list(scores["teacher_hidden"].unbind())
        return batch_of(shapes(rows), student, BUDGET), weighed.metrics

    def norms(self) -> dict[str, float]:
        """Of the gradients of the vision tower (with what joins it) and of the language model; what is trained."""
        squares: dict[str, float] = {}
        for name, parameter in self.engine.module.named_parameters():
            if parameter.grad is not None:
                part = "vision" if part_of(name) in ("vision", "merger") else "language"
                squares[part] = squares.get(part, 0.0) + float(parameter.grad.full_tensor().pow(2).sum())
        return {part: square**0.5 for part, square in squares.items()}
