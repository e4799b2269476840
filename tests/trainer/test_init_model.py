"""What a worker does when it is built, and in what order."""

from types import SimpleNamespace
from unittest import mock

import pytest
from omegaconf import OmegaConf

from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig


@pytest.mark.parametrize("method, teacher", [("vaopd", ["teacher"]), ("grpo", [])])
def test_the_cache_is_emptied_after_all_models_are_built(tmp_path, method, teacher):
    """vLLM, which wakes up next in the same device, is given what is free then."""
    from verl_vaopd.trainer import workers

    order = []
    built = SimpleNamespace(reset=lambda: None, get_dispatch_collect=lambda: {})
    worker = object.__new__(workers.VAOPDWorker)
    worker.rollout = SimpleNamespace(zmq_handle="ipc:///tmp/x")
    worker.config = SimpleNamespace(
        vaopd=VAOPDConfig(teacher=TeacherConfig(path="x"), output_dir=str(tmp_path), method=method),
        vaopd_vocab_size=10,
        actor=SimpleNamespace(freeze_vision_tower=False),
        model=OmegaConf.create({"override_config": {}}),
        rollout=SimpleNamespace(temperature=1.0),
    )
    worker.actor = SimpleNamespace(attach_objective=lambda *_: order.append("head"), engine=SimpleNamespace())
    worker.set_dispatch_collect = lambda **_: None

    def stage(name, result=None):
        return lambda *_, **__: order.append(name) or result

    with (
        mock.patch.multiple(
            workers,
            TeacherWorker=stage("teacher", built),
            aggressive_empty_cache=stage("emptied"),
            omega_conf_to_dataclass=lambda config: config,
            private_socket=lambda handle: handle,
        ),
        mock.patch.object(workers.ActorRolloutRefWorker, "init_model", stage("host")),
    ):
        workers.VAOPDWorker.init_model(worker)
    assert order == ["host", "head", *teacher, "emptied"]
    worker.actor.engine.say("what no forward reaches")
    assert "what no forward reaches" in (tmp_path / "progress.log").read_text()
