"""``verl-vaopd answers`` before it samples."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.launch import answers


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    from verl_vaopd.tiny.models import random_models

    monkeypatch.setenv("VAOPD_SUPERVISED", "1")
    student, teacher = random_models(tmp_path / "models")
    pq.write_table(pa.Table.from_pylist([make_row("train", 0)]), tmp_path / "rows.parquet")
    given = [f"actor_rollout_ref.model.path={student}", f"vaopd.teacher.path={teacher}"]
    given += [f"data.{name}_files={tmp_path / 'rows.parquet'}" for name in ("train", "val")]
    return ["--config-name", "tiny_cpu", "--dry-run", *given, f"vaopd.answers={tmp_path / 'answers'}"]


def test_a_dry_run_checks_and_samples_nothing(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(answers, "sampled", pytest.fail)
    assert answers.main(arguments) == 0
    assert f"answers would go to {tmp_path / 'answers'}" in capsys.readouterr().out
    assert not (tmp_path / "answers").exists()


def test_a_dry_run_names_what_does_not_fit(arguments, capsys):
    assert answers.main([*arguments, "data.max_prompt_length=8"]) == 2
    assert "data.train_files" in capsys.readouterr().err
