"""verl's profiler sees the teacher's phase, beside the student or in workers of its own."""

import gzip
import json
import pickle
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.profiler import DistProfiler
from verl.workers.config import TrainingWorkerConfig

from verl_vaopd.settings.compose import compose
from verl_vaopd.trainer.profiling import Profiling, nsight_settings
from verl_vaopd.trainer.workers import TeacherWorker, VAOPDWorker

RUN = ["actor_rollout_ref.model.path=x", "vaopd.teacher.path=x", "data.train_files=x", "data.val_files=x"]
RUN += ["vaopd.output_dir=x", "actor_rollout_ref.actor.profiler.enable=true"]


def settings(*overrides):
    return compose("vaopd_trainer", [*RUN, *overrides])


def profiler_of(folder, discrete):
    """As a worker makes it of the actor's settings, once they have travelled to it."""
    config = settings(
        "global_profiler.tool=torch",
        f"global_profiler.save_path={folder}",
        "actor_rollout_ref.actor.profiler.tool_config.torch.contents=[cpu]",
        f"actor_rollout_ref.actor.profiler.tool_config.torch.discrete={discrete}",
    )
    profiler = pickle.loads(pickle.dumps(omega_conf_to_dataclass(config.actor_rollout_ref.actor.profiler)))
    return DistProfiler(0, profiler, profiler.tool_config["torch"], save_file_prefix="worker")


def scores(data):
    return TensorDict({"va": torch.ones(3) @ torch.ones(3, 3)}, [])


@pytest.mark.parametrize("discrete, name", [(False, "worker_train_step3"), (True, "worker_teacher-score_step3")])
@pytest.mark.parametrize("kind", [VAOPDWorker, TeacherWorker])
def test_the_teachers_phase_is_named_in_the_trace(tmp_path, kind, discrete, name):
    worker = object.__new__(kind)
    worker.profiler = profiler_of(tmp_path, discrete)
    if kind is VAOPDWorker:
        worker.teacher = SimpleNamespace(score=scores)
        worker.config = SimpleNamespace(actor=SimpleNamespace(ulysses_sequence_parallel_size=1))
    else:
        worker.score = scores
    worker.profiler.start(role="train", profile_step=3)
    kind.score_views(worker, TensorDict({}, []))
    worker.profiler.stop()
    (path,) = tmp_path.iterdir()
    assert path.name.startswith(f"{name}_rank0")
    with gzip.open(path) as f:
        events = json.load(f)["traceEvents"]
    phase = [event for event in events if event["name"] == "teacher_score"]
    product = [event for event in events if event["name"] == "aten::matmul"]
    assert len(phase) == len(product) == 1
    assert phase[0]["ts"] <= product[0]["ts"] <= phase[0]["ts"] + phase[0]["dur"]


class Trainer(Profiling, PPOTrainerSync):
    """What starts and stops profilers, and nothing else."""

    def __init__(self, teacher_apart: bool):
        self.config = OmegaConf.create({"global_profiler": {"steps": [2], "profile_continuous_steps": False}})
        self.actor_rollout_wg = mock.Mock()
        self.teacher_wg = mock.Mock() if teacher_apart else self.actor_rollout_wg
        self.use_reference_policy = self.use_critic = self.curr_step_profile = False
        self.total_training_steps = 9


@pytest.mark.parametrize("teacher_apart", [True, False])
def test_a_teachers_own_workers_are_recorded_in_the_same_steps(teacher_apart):
    trainer = Trainer(teacher_apart)
    for trainer.global_steps in (1, 2, 3):
        trainer._start_profiling()
        trainer._stop_profiling()
    student, teacher = trainer.actor_rollout_wg, trainer.teacher_wg
    student.start_profile.assert_called_once_with(role="train", profile_step=2)
    student.stop_profile.assert_called_once_with(run_command=True)
    if teacher_apart:
        teacher.start_profile.assert_called_once_with(profile_step=2)
        teacher.stop_profile.assert_called_once_with(run_command=True)
    assert trainer.use_reference_policy is False


def test_a_teachers_own_workers_start_under_nsys_where_the_students_do():
    given = nsight_settings(settings("global_profiler.tool=nsys", "global_profiler.steps=[2]"))
    assert given["profile_steps"] == [2]
    assert given["worker_nsight_options"]["capture-range"] == "cudaProfilerApi"
    assert nsight_settings(settings("global_profiler.tool=torch", "global_profiler.steps=[2]")) == {}
    assert nsight_settings(settings("global_profiler.tool=nsys")) == {}


def test_a_teachers_own_worker_is_built_with_its_profiler():
    given = omega_conf_to_dataclass(settings().actor_rollout_ref.actor.profiler)
    config = SimpleNamespace(teacher=mock.MagicMock(override_config={}), layout="auto")
    with (
        mock.patch("verl_vaopd.trainer.workers.init_process_group"),
        mock.patch("verl_vaopd.trainer.workers.HFModelConfig"),
        mock.patch("verl_vaopd.trainer.workers.TrainingWorkerConfig", wraps=TrainingWorkerConfig),
        mock.patch("verl_vaopd.trainer.workers.TrainingWorker.__init__", side_effect=StopIteration) as host,
        pytest.raises(StopIteration),
    ):
        TeacherWorker(config, 10, given)
    assert host.call_args.args[0].profiler_config is given
