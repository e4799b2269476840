"""Which rows need a reference answer at the start: those that a reward or the choice of a checkpoint goes by."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_vaopd.checks.start import check
from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.settings.compose import compose
from verl_vaopd.tiny.models import random_models


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Settings of models and of data with and without a truth."""
    folder = tmp_path_factory.mktemp("truths")
    student, teacher = random_models(folder / "models")
    labelled, unlabelled = ([make_row("train", index) for index in range(2)] for _ in range(2))
    for row in unlabelled:
        row["reward_model"]["ground_truth"] = None
    for name, rows in (("labelled", labelled), ("unlabelled", unlabelled)):
        schema = pa.Table.from_pylist(labelled).schema
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.parquet")
    models = [f"actor_rollout_ref.model.path={student}", f"vaopd.teacher.path={teacher}"]
    return folder, [*models, f"vaopd.output_dir={folder / 'run'}", "data.train_batch_size=2"]


def checked(given, train: str, held_out: str, *overrides: str) -> list[str]:
    folder, settings = given
    files = [f"data.train_files={folder / train}.parquet", f"data.val_files={folder / held_out}.parquet"]
    return check(compose("tiny_cpu", [*settings, *files, *overrides]), dry_run=True)


def test_distillation_needs_no_truth_in_what_it_trains_on(given):
    assert checked(given, "unlabelled", "labelled") == []


@pytest.mark.parametrize(
    ("train", "held_out", "override", "setting"),
    [
        ("labelled", "unlabelled", "vaopd.method=opd", "data.val_files"),
        ("unlabelled", "labelled", "vaopd.method=grpo", "data.train_files"),
        ("unlabelled", "labelled", "vaopd.reward_weight=0.1", "data.train_files"),
    ],
)
def test_a_reward_and_the_choice_of_a_checkpoint_do(given, train, held_out, override, setting):
    with pytest.raises(ValueError, match=f"{setting}: (.|\n)*ground_truth: is empty"):
        checked(given, train, held_out, override)
