"""The environment that the toolkit runs in."""

import pytest

from verl_vaopd.serving import EvaluationError, toolkit_process


def test_the_toolkits_environment_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VAOPD_EVAL_VENV", str(tmp_path / "none"))
    with pytest.raises(EvaluationError, match="setup.sh --eval"):
        toolkit_process.toolkit_python()


def test_the_toolkit_gets_no_secret_and_nothing_that_steers_it(monkeypatch):
    for name in ("OPENAI_API_KEY", "VAOPD_JUDGE_API_KEY", "HF_TOKEN", "LOCAL_LLM"):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in toolkit_process.toolkit_environment().values()
    monkeypatch.setenv("LMUData", "/no/such/folder")
    with pytest.raises(EvaluationError, match="LMUData=/no/such/folder"):
        toolkit_process.toolkit_environment()
