"""The real student and teacher as one rank of several, without checkpoints, and what they hold: live bytes of a step.

The student's worker makes one whole optimiser step of two micro-batches, the teacher's engine scores two.
"""

import contextlib
import copy
import gc
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import torch

from benchmarks.live_bytes import LiveBytes
from verl_vaopd.algorithm.linear_log_softmax import softmax_rows
from verl_vaopd.costs.held import MicroBatch
from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.methods import method_of
from verl_vaopd.planning.needs import Needs
from verl_vaopd.settings.config import TeacherConfig, VAOPDConfig

RANKS, MICRO_BATCHES = 8, 2
IMAGE_TOKEN, VOCABULARY = 151655, 151669  # of Qwen3-VL's tokenizer
TEACHER = ModelShape.of(QWEN3_VL_INSTRUCT["8B"])  # of every student


@dataclass(frozen=True)
class Case:
    """One model, and what a rank runs in each of two micro-batches. Tokens are of a prompt, of a rollout."""

    role: str
    """student or teacher; the teacher scores two views."""
    size: str
    layers: int | None = None
    """Of the decoder; None: all."""
    prompts: int = 1
    rollouts: int = 1
    text_tokens: int = 40
    image_side: int = 2
    """Of a square image, in tokens of the decoder."""
    response: int = 1000
    checkpointing: bool = True
    method: str = "vaopd"
    kernel: str = "varlen"
    """Of the decoder's attention; as on a GPU. It cannot be computed on a CPU, only held."""

    @property
    def settings(self) -> VAOPDConfig:
        return VAOPDConfig(TeacherConfig("teacher"), "outputs", method=self.method)

    @property
    def needs(self) -> Needs:
        return Needs.of(method_of(self.settings))

    @property
    def config(self) -> dict:
        config = copy.deepcopy(QWEN3_VL_INSTRUCT[self.size])
        if self.layers is not None:
            config["text_config"]["num_hidden_layers"] = self.layers
        return config

    @property
    def shape(self) -> ModelShape:
        return ModelShape.of(self.config)

    @property
    def batch(self) -> MicroBatch:
        views = self.needs.teacher_views if self.role == "teacher" else self.needs.student_views
        prompt, image = self.text_tokens + self.image_side**2, self.image_side**2
        branches = self.prompts * (self.rollouts - 1)
        return MicroBatch(
            tokens=views * self.prompts * (prompt + self.rollouts * self.response),
            patches=views * self.prompts * image * self.shape.vision.merge,
            rows=views * self.prompts * self.rollouts * self.response,
            keys=views * branches * (prompt + self.response),
        )


def from_config(pretrained_model_name_or_path, torch_dtype, config, trust_remote_code):
    """In place of ``from_pretrained``: a model of that dtype, without a checkpoint."""
    from transformers import Qwen3VLForConditionalGeneration

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch_dtype)
    try:
        return Qwen3VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)


def teacher_head(path: str) -> torch.Tensor:
    return torch.zeros(TEACHER.text.vocab_size, TEACHER.text.hidden_size, dtype=torch.bfloat16)


def write_config(folder: str, case: Case) -> None:
    from transformers import Qwen3VLConfig

    Qwen3VLConfig(**case.config).save_pretrained(folder)


@contextlib.contextmanager
def rows_of_a_gpu() -> Iterator[None]:
    """Softmaxes of as many rows at a time as on a GPU, wherever the function has been imported."""
    own, softmax_rows.__code__ = softmax_rows.__code__, (lambda device: 64).__code__  # BLOCK_ROWS of costs/held.py
    yield
    softmax_rows.__code__ = own


@contextlib.contextmanager
def one_of_many_ranks() -> Iterator[None]:
    """A process group whose collectives do nothing, and models without checkpoints."""
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from transformers import AutoModelForImageTextToText

    def own_object(gathered, mine, group=None):
        gathered[:] = [mine] * len(gathered)

    os.environ.update(RANK="0", WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    torch.distributed.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    with (
        mock.patch.object(AutoModelForImageTextToText, "from_pretrained", from_config),
        mock.patch("verl.workers.engine.fsdp.transformer_impl.fsdp2_load_full_state_dict", lambda *_: None),
        mock.patch("torch.distributed.all_gather_object", own_object),
        rows_of_a_gpu(),
    ):
        yield
    torch.distributed.destroy_process_group()


def rows_of(case: Case, live: LiveBytes) -> tuple[list[tuple], dict, dict]:
    """(uid, ids, response length) of each rollout; images by uid, as they are and degraded, in host memory."""
    from verl_vaopd.model.vision import ImageInputs

    vision = case.shape.vision
    side, width = 2 * case.image_side, vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    rows, views = [], ({}, {})
    for prompt in range(MICRO_BATCHES * case.prompts):
        for view in views:
            view[f"{prompt}"] = ImageInputs(torch.zeros(side**2, width), torch.tensor([[1, side, side]]))
            live.leave_out(view[f"{prompt}"].pixel_values)
        ids = torch.randint(0, 1000, (case.text_tokens + case.image_side**2,))
        ids[8 : 8 + case.image_side**2] = IMAGE_TOKEN
        for _ in range(case.rollouts):
            rows.append((f"{prompt}", torch.cat([ids, torch.randint(0, 1000, (case.response,))]), case.response))
    return rows, *views


def batch_of(case: Case, rows: list[tuple], **columns):
    import verl.utils.tensordict_utils as tu

    def nested(values):
        return torch.nested.as_nested_tensor(list(values), layout=torch.jagged)

    masks = [torch.ones(length, dtype=torch.long) for *_, length in rows]
    fixed = {"uid": [uid for uid, *_ in rows], "input_ids": nested(ids for _, ids, _ in rows)}
    columns = {name: nested(values) for name, values in columns.items()}
    data = tu.get_tensordict({**fixed, "response_mask": nested(masks), **columns})
    tu.assign_non_tensor(data, use_dynamic_bsz=True, max_token_len_per_gpu=case.batch.tokens)
    return data


def measured(case: Case, hollow: bool = True) -> dict[str, float]:
    """Bytes: ``resident`` between phases, ``peak`` of the engine's phase, of a student ``updating``, the optimiser's.

    Call under :func:`one_of_many_ranks`.
    """
    live = LiveBytes(hollow)
    kernel = mock.patch("verl_vaopd.model.engine.resolve_attention", lambda *_: case.kernel)
    with tempfile.TemporaryDirectory() as folder, live, kernel:
        write_config(folder, case)
        return {"student": measured_student, "teacher": measured_teacher}[case.role](case, live, folder)


def measured_teacher(case: Case, live: LiveBytes, folder: str) -> dict[str, float]:
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import HFModelConfig

    from verl_vaopd.teacher.engine import TeacherEngine

    config = TeacherConfig(path=folder, dtype="bf16").engine_config()
    model = HFModelConfig(path=folder, load_tokenizer=False, override_config={"attn_implementation": "auto"})
    engine = TeacherEngine(model, config, None, CheckpointConfig())
    engine._build_model_optimizer()
    engine.vocab_size, engine.chunk_size, engine.method = VOCABULARY, None, method_of(case.settings)
    rows, engine.vision, engine.degraded = rows_of(case, live)
    data = batch_of(case, rows)
    gc.collect()
    live.reset()
    resident = live.bytes
    with engine.eval_mode():
        engine.infer_batch(data)
    return {"resident": resident, "peak": live.peak}


def measured_student(case: Case, live: LiveBytes, folder: str) -> dict[str, float]:
    import verl.utils.tensordict_utils as tu
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import (
        ActorConfig,
        FSDPEngineConfig,
        FSDPOptimizerConfig,
        HFModelConfig,
        TrainingWorkerConfig,
    )

    from verl_vaopd.student.engine import StudentEngine
    from verl_vaopd.student.trained import Trained
    from verl_vaopd.trainer.workers import StudentTrainingWorker

    settings = TrainingWorkerConfig(
        model_type="vaopd_student",
        model_config=HFModelConfig(
            path=folder,
            load_tokenizer=False,
            override_config={"attn_implementation": "auto"},
            use_remove_padding=True,
            enable_gradient_checkpointing=case.checkpointing,
        ),
        engine_config=FSDPEngineConfig(
            strategy="fsdp2",
            model_dtype="fp32",
            mixed_precision={"param_dtype": "bf16", "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
            use_torch_compile=False,
            use_no_sync_for_gradient_accumulation=False,
        ),
        optimizer_config=FSDPOptimizerConfig(
            optimizer="AdamW", lr=1e-6, total_training_steps=10, override_optimizer_config={"foreach": True}
        ),  # foreach: the default on a GPU
        checkpoint_config=CheckpointConfig(),
    )
    without_checkpoints = mock.patch.object(StudentEngine, "initialize", StudentEngine._build_model_optimizer)
    with mock.patch("verl_vaopd.trainer.workers.init_process_group"), without_checkpoints:
        worker = StudentTrainingWorker(settings)
        worker.reset()
    worker.set_loss_fn(lambda *_, **__: None)  # the host asks for one; the engine has its own
    engine, figures = worker.engine, {}
    engine.checkpoint_manager = SimpleNamespace(trained=Trained(case.size, unreached=[]))  # none is looked for
    actor = ActorConfig(strategy="fsdp2", rollout_n=4, ppo_mini_batch_size=1, ppo_micro_batch_size_per_gpu=1)
    with mock.patch("verl_vaopd.trainer.workers.load_lm_head", teacher_head):
        worker.attach_objective(case.settings, VOCABULARY, actor, temperature=0.7)
    rows, *views = rows_of(case, live)
    update = engine.optimizer_step

    def recorded():
        # What other ranks would send is garbage, maybe not finite: the host would leave the update out.
        for parameter in engine.module.parameters():
            if parameter.grad is not None:  # of a deepstack merger without a layer
                parameter.grad.to_local().zero_()
        figures["peak"] = live.peak
        live.reset()
        return update()

    engine.optimizer_step = recorded
    gc.collect()
    figures["resident"] = live.bytes
    names = {"token_weights", "rollout_log_probs", *engine.objective.fields} - {"teacher_hidden"}
    data = batch_of(case, rows, **{name: [torch.ones(length) for *_, length in rows] for name in names})
    if case.needs.distils:
        hidden = [torch.zeros(length, TEACHER.text.hidden_size, dtype=torch.bfloat16) for *_, length in rows]
        worker.hand_over(data, torch.nested.as_nested_tensor(hidden, layout=torch.jagged))
        del hidden
    tu.assign_non_tensor(data, mini_batch_size=len(rows) * RANKS, dataloader_kwargs={"shuffle": False})
    live.reset()
    with mock.patch(
        "verl_vaopd.trainer.workers.fetch_views", lambda uids, degraded: (views[0], views[1] if degraded else {})
    ):
        worker.train_mini_batch(data)
    return figures | {"updating": live.peak}
