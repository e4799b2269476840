"""Rows are counted and encoded with the processor of every family."""

import pytest

from tests.stack import mixed_rows
from tests.tiny_families import PROCESSORS
from verl_vaopd.checks.rows import check_rows
from verl_vaopd.settings.compose import compose


@pytest.fixture(scope="module")
def data():
    rest = ["vaopd.teacher.path=t", "data.train_files=a", "data.val_files=b"]
    return compose("tiny_cpu", ["actor_rollout_ref.model.path=s", *rest]).data


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """One image, two and none, in turn."""
    return str(mixed_rows(tmp_path_factory.mktemp("rows") / "rows.parquet", 6))


@pytest.mark.parametrize("family", PROCESSORS)
def test_as_many_tokens_are_counted_as_are_made(data, rows, family):
    """Else the check itself would refuse every row: the processor makes so many tokens, so many were counted."""
    assert check_rows(rows, "data.train_files", PROCESSORS[family](), data, lambda image: image, 2, family) == 6
