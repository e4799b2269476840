"""What ``trainer.logger`` may name, and what is missing for it."""

import pytest
from omegaconf import OmegaConf

from verl_vaopd.checks import trackers
from verl_vaopd.checks.trackers import check_trackers


def check(logger, home, monkeypatch, **environ) -> None:
    monkeypatch.setenv("HOME", str(home))
    check_trackers(OmegaConf.create({"trainer": {"logger": logger}}), environ)


def test_trackers_that_are_here_pass(tmp_path, monkeypatch):
    for logger in ([], None, "tensorboard", ["console", "tensorboard"]):
        check(logger, tmp_path, monkeypatch)


def test_an_unknown_tracker_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="trainer.logger: 'wandbb' is unknown; known are tensorboard, wandb"):
        check(["wandbb"], tmp_path, monkeypatch)


def test_a_tracker_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="'mlflow' wants the package mlflow: pip install mlflow-skinny"):
        check("mlflow", tmp_path, monkeypatch)


@pytest.mark.parametrize(("name", "variable"), [("wandb", "WANDB"), ("swanlab", "SWANLAB")])
def test_a_service_without_a_key_is_refused(name, variable, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match=f"no key.*export {variable}_API_KEY.*{variable}_MODE=offline"):
        check([name], tmp_path, monkeypatch)
    check([name], tmp_path, monkeypatch, **{f"{variable}_MODE": "offline"})
    check([name], tmp_path, monkeypatch, **{f"{variable}_API_KEY": "abc"})


def test_a_login_counts_for_its_host(tmp_path, monkeypatch):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password abc\n")
    netrc.chmod(0o600)
    check("wandb", tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="wandb login"):
        check("wandb", tmp_path, monkeypatch, WANDB_BASE_URL="https://wandb.example.org")
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    (tmp_path / ".swanlab").mkdir()
    (tmp_path / ".swanlab" / ".netrc").write_text("")
    check("swanlab", tmp_path, monkeypatch)


def test_a_password_in_the_address_of_mlflow_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    check("mlflow", tmp_path, monkeypatch, MLFLOW_TRACKING_URI="https://mlflow.example.org")
    with pytest.raises(ValueError, match="export MLFLOW_TRACKING_USERNAME") as refused:
        check("mlflow", tmp_path, monkeypatch, MLFLOW_TRACKING_URI="https://me:hunter2@mlflow.example.org")
    assert "hunter2" not in str(refused.value)
