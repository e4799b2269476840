"""The real teacher and student on tiny models, in this machine's dtype."""

from pathlib import Path

from verl.trainer.config import CheckpointConfig
from verl.workers.config import (
    ActorConfig,
    FSDPEngineConfig,
    FSDPOptimizerConfig,
    HFModelConfig,
    TrainingWorkerConfig,
)

from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.teacher.engine import TeacherEngine
from verl_vaopd.trainer.workers import StudentTrainingWorker

OVERRIDE = {"attn_implementation": "auto"}  # the kernel that a run would take


def build_student(path: Path, dtype: str) -> StudentTrainingWorker:
    worker = StudentTrainingWorker(
        TrainingWorkerConfig(
            model_type="vaopd_student",
            model_config=HFModelConfig(
                path=str(path), load_tokenizer=False, override_config=OVERRIDE, use_remove_padding=True
            ),
            engine_config=FSDPEngineConfig(
                strategy="fsdp2",
                model_dtype="fp32",
                mixed_precision={"param_dtype": dtype, "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
                use_torch_compile=False,
            ),
            optimizer_config=FSDPOptimizerConfig(lr=1e-4, total_training_steps=10, clip_grad=1.0),
            checkpoint_config=CheckpointConfig(),
        )
    )
    worker.reset()
    worker.set_loss_fn(lambda *args, **kwargs: None)  # the host asks for one; the engine has its own
    return worker


def build_teacher(path: Path, dtype: str) -> TeacherEngine:
    engine_config = TeacherConfig(path=str(path), dtype=dtype).engine_config()
    model = HFModelConfig(path=str(path), load_tokenizer=False, override_config=OVERRIDE)
    teacher = TeacherEngine(model, engine_config, None, CheckpointConfig())
    teacher.initialize()
    return teacher


def actor() -> ActorConfig:
    return ActorConfig(strategy="fsdp2", rollout_n=3, ppo_mini_batch_size=3, ppo_micro_batch_size_per_gpu=1)
