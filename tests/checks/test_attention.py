"""The kernels of a run are named, or refused, before Ray."""

import pytest

from tests.settings.test_config import REQUIRED
from verl_vaopd.checks.attention import kernels_of, said
from verl_vaopd.checks.start import check, check_settings
from verl_vaopd.model import kernels
from verl_vaopd.settings.compose import compose


def found(name: str, *overrides) -> dict[str, str]:
    config = compose(name, [*REQUIRED, *overrides])
    return kernels_of(config, check_settings(config))


@pytest.fixture(autouse=True)
def no_flash_attn(monkeypatch):
    monkeypatch.setattr(kernels, "flash_attn_fault", lambda: "it is not installed")


def test_a_gpu_config_needs_no_package_and_says_what_runs():
    assert found("vaopd_trainer") == {"student": "varlen", "teacher": "varlen"}
    assert said(compose("vaopd_trainer", REQUIRED)) == "attention: student varlen, teacher varlen"
    assert found("vaopd_trainer", "vaopd.method=grpo") == {"student": "varlen"}
    assert found("vaopd_trainer", "vaopd.teacher.dtype=fp32")["teacher"] == "sdpa"
    assert found("tiny_cpu") == {"student": "sdpa", "teacher": "sdpa"}


def test_flash_attn_is_taken_where_it_can_be_imported(monkeypatch):
    monkeypatch.setattr(kernels, "flash_attn_fault", lambda: None)
    assert found("vaopd_trainer") == {"student": "flash_attention_2", "teacher": "flash_attention_2"}


@pytest.mark.parametrize("model", ["actor_rollout_ref.model", "vaopd.teacher"])
@pytest.mark.parametrize(
    "kernel, says", [("flash_attention_2", "auto or varlen, or flash-attn installed"), ("eager", "one of auto")]
)
def test_a_kernel_that_cannot_run_is_refused_before_anything_is_loaded(model, kernel, says):
    config = compose("vaopd_trainer", [*REQUIRED, f"{model}.override_config.attn_implementation={kernel}"])
    with pytest.raises(ValueError, match=f"attn_implementation='{kernel}': must be .*{says}"):
        check(config, dry_run=True)
