"""``verl-vaopd answers`` before it samples."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq

from tests.stack import run
from verl_vaopd.data.synthetic_geometry import make_row


def test_a_dry_run_checks_and_samples_nothing(tmp_path):
    from verl_vaopd.tiny.models import random_models

    student, teacher = random_models(tmp_path / "models")
    pq.write_table(pa.Table.from_pylist([make_row("train", 0)]), tmp_path / "rows.parquet")
    given = [f"actor_rollout_ref.model.path={student}", f"vaopd.teacher.path={teacher}"]
    given += [f"data.{name}_files={tmp_path / 'rows.parquet'}" for name in ("train", "val")]
    dry = [sys.executable, "-m", "verl_vaopd.cli", "answers", "--config-name", "tiny_cpu", "--dry-run", *given]
    dry.append(f"vaopd.answers={tmp_path / 'answers'}")
    shown = run(*dry)
    assert shown.returncode == 0 and f"answers would go to {tmp_path / 'answers'}" in shown.stdout
    refused = run(*dry, "data.max_prompt_length=8")
    assert refused.returncode == 2 and "data.train_files" in refused.stdout
    assert not (tmp_path / "answers").exists()
