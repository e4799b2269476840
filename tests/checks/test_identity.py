"""A checkpoint says whose it is, and another run does not go on from it."""

import json
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from verl_vaopd.checks.identity import check_models_of, checkpoint_to_resume, fingerprint, write_models


@pytest.fixture
def model(tmp_path):
    """A checkpoint whose weights file is long enough to be read in samples: 2 MiB."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "qwen3_vl", "text_config": {"hidden_size": 64}, "transformers_version": "5.0"}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.arange(2**19, dtype=torch.float32)}, folder / "model.safetensors")
    return folder


def changed(model, name: str, config=None, weight=None):
    """A copy beside it with another entry of the config, or another weight at a place."""
    folder = model.parent / name
    shutil.copytree(model, folder)
    if config:
        was = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**was, **config}))
    if weight is not None:
        weights = load_file(folder / "model.safetensors")
        weights["weight"] += weight
        save_file(weights, folder / "model.safetensors")
    return folder


def test_the_fingerprint_is_of_the_content(model):
    assert fingerprint(model) == fingerprint(changed(model, "moved"))
    assert fingerprint(model) == fingerprint(changed(model, "saved_again", {"transformers_version": "5.1"}))
    assert fingerprint(model) != fingerprint(changed(model, "wider", {"text_config": {"hidden_size": 128}}))
    assert fingerprint(model) != fingerprint(changed(model, "trained", weight=0.5))


def test_another_model_is_refused_by_name(model, tmp_path):
    checkpoint = tmp_path / "global_step_3"
    checkpoint.mkdir()
    check_models_of(checkpoint, student=str(model), teacher=str(model))  # of a version that wrote nothing
    write_models(str(checkpoint), student=str(model), teacher=str(model))
    check_models_of(checkpoint, student=str(changed(model, "moved")), teacher=str(model))
    check_models_of(checkpoint, student=str(model), teacher=None)  # a method without one

    wider = str(changed(model, "wider", {"text_config": {"hidden_size": 128}}))
    with pytest.raises(ValueError, match=r"actor_rollout_ref.model.path=.*wider.*hidden_size: 64, now 128.*output_dir"):
        check_models_of(checkpoint, student=wider, teacher=str(model))
    trained = str(changed(model, "trained", weight=0.5))
    with pytest.raises(ValueError, match=rf"vaopd.teacher.path=.*trained.*another teacher, {model}.* its weights\."):
        check_models_of(checkpoint, student=str(model), teacher=trained)


def test_the_checkpoint_is_the_one_that_verl_takes(tmp_path):
    def config(**trainer):
        return OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path), "resume_from_path": None, **trainer}})

    assert checkpoint_to_resume(config(resume_mode="auto")) is None
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("40")
    assert checkpoint_to_resume(config(resume_mode="auto")) is None  # verl then begins anew
    (tmp_path / "global_step_40").mkdir()
    assert checkpoint_to_resume(config(resume_mode="auto")) == tmp_path / "global_step_40"
    assert checkpoint_to_resume(config(resume_mode="disable")) is None
    path = "/elsewhere/global_step_7"
    assert str(checkpoint_to_resume(config(resume_mode="resume_path", resume_from_path=path))) == path
