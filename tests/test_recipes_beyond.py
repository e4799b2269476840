"""The recipes of methods beyond the paper: they differ from VA-OPD's in the objective only."""

import pytest

from tests.test_recipes import GPU_RECIPES, NAMES_OF_A_RUN, ROOT, composed, flat

pytestmark = pytest.mark.slow

BEYOND_THE_PAPER = {
    "gkd": {"vaopd.method"},
    "grpo_va": {"vaopd.method"},
    "self_distillation": {"vaopd.method", "vaopd.degradation_ratio"},
    "vaopd_with_reward": {"vaopd.reward_weight"},
}


@pytest.mark.parametrize("recipe, differs", BEYOND_THE_PAPER.items())
def test_recipes_beyond_the_paper_differ_in_the_objective_only(recipe, differs, tmp_path):
    nothing = {"DATA_DIR": str(tmp_path), "VAOPD_TINY_DIR": str(tmp_path), "ANSWERS_DIR": f"{tmp_path}/answers"}
    for options in ([], ["--tiny"]):
        one, other = flat(composed(recipe, *options, **nothing)), flat(composed("table1/vaopd", *options, **nothing))
        differ = {name for name in one if one[name] != other[name]}
        if recipe == "self_distillation":  # teacher and student are one: the small model, of the tiny ones the teacher
            models, kept = ("vaopd.teacher.path", "actor_rollout_ref.model.path")[:: -1 if options else 1]
            assert models in differ and one[models] == one[kept] == other[kept]
            differ -= {models, "actor_rollout_ref.rollout.prometheus.served_model_name"}  # by the student's path
        assert differ == {*differs, *NAMES_OF_A_RUN}


def test_there_is_no_other_recipe():
    names = {path.stem for path in (ROOT / "recipes").glob("*.sh")}
    tiny = {"vaopd_tiny_cpu", "vaopd_tiny_gpu", "replicate_tiny_cpu", "dilution_study"}
    assert names == {*GPU_RECIPES, *BEYOND_THE_PAPER, *tiny, "gpu", "shared"}
