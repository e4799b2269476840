"""``verl-vaopd answers`` before it samples."""

import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.stack import run
from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.launch.answers import checked
from verl_vaopd.settings.compose import compose


@pytest.mark.slow
def test_a_dry_run_checks_and_samples_nothing(tmp_path):
    from verl_vaopd.tiny.models import random_models

    student, teacher = random_models(tmp_path / "models")
    pq.write_table(pa.Table.from_pylist([make_row("train", number) for number in range(16)]), tmp_path / "rows.parquet")
    given = [f"actor_rollout_ref.model.path={student}", f"vaopd.teacher.path={teacher}"]
    given += [f"data.{name}_files={tmp_path / 'rows.parquet'}" for name in ("train", "val")]
    dry = [sys.executable, "-m", "verl_vaopd.cli", "answers", "--config-name", "tiny_cpu", "--dry-run", *given]
    dry.append(f"vaopd.answers={tmp_path / 'answers'}")
    shown = run(*dry)
    assert shown.returncode == 0 and f"answers would go to {tmp_path / 'answers'}" in shown.stdout
    refused = run(*dry, "data.max_prompt_length=8")
    assert refused.returncode == 2 and "data.train_files" in refused.stdout
    assert not (tmp_path / "answers").exists()


@pytest.mark.parametrize(
    "override, says",
    [
        ("actor_rollout_ref.actor.ppo_epochs=2", "ppo_epochs=2: must be 1"),
        ("trainer.v1.trainer_mode=colocate_async", "'sync': answers of offpolicy_kd are stored"),
        ("data.train_batch_size=17", "data.train_batch_size=17: must be 16 or less"),
        ("vaopd.answers=null", "vaopd.answers is not set"),
    ],
)
def test_what_a_run_would_be_refused_for_is_refused_before_answers_are_sampled(override, says, monkeypatch):
    monkeypatch.setattr("verl_vaopd.checks.models.check_models", lambda *_: None)
    monkeypatch.setattr("verl_vaopd.checks.models.model_type_of", lambda *_: "qwen3_vl")
    monkeypatch.setattr("verl_vaopd.checks.rows.check_rows", lambda *_: 16)
    given = ["actor_rollout_ref.model.path=s", "vaopd.teacher.path=t", "data.train_files=a", "data.val_files=b"]
    given += ["vaopd.method=offpolicy_kd", "vaopd.answers=answers", override]
    with pytest.raises(ValueError, match=re.escape(says)):
        checked(compose("tiny_cpu", given))
