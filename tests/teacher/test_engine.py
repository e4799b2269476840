"""What the teacher's engine takes from a method; its scores are held against plain forwards in tests/student."""

import pytest
import torch

from verl_vaopd.methods import method_of
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.teacher.engine import TeacherEngine


def engine(**settings) -> TeacherEngine:
    made = TeacherEngine.__new__(TeacherEngine)
    made.method = method_of(VAOPDConfig(teacher=TeacherConfig(path="t"), output_dir="x", **settings))
    return made


@pytest.mark.parametrize("degraded_view, views", [(True, 2), (False, 1)])
def test_the_method_says_how_many_views_there_are(degraded_view, views):
    assert engine(method="opd", degraded_view=degraded_view).views == views


@pytest.mark.parametrize(
    "columns, says",
    [
        ({"logp_original": torch.zeros(3)}, "it must return [3] for each of logp_original, logp_pixelated"),
        ({"logp_original": torch.zeros(3), "logp_pixelated": torch.zeros(2)}, "'logp_pixelated': [2]"),
        ({"logp_original": torch.zeros(3), "logp_pixelated": torch.zeros(3), "x": torch.zeros(3)}, "'x': [3]"),
    ],
)
def test_columns_that_a_method_did_not_name_are_refused(columns, says):
    with pytest.raises(ValueError, match=r"vaopd.method=vaopd: score\(\) returns") as refused:
        engine()._checked(columns, 3)
    assert says in str(refused.value)
