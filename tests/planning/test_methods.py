"""A plan for every method: what its step has and what it does not."""

import pytest

from verl_vaopd.launch.plan import main
from verl_vaopd.methods import method_names, method_of
from verl_vaopd.planning.needs import Needs
from verl_vaopd.settings.config import TeacherConfig, VAOPDConfig

PHASES = dict.fromkeys(
    ("generation: prefill", "generation: decode", "teacher", "coefficients (driver)", "student", "optimiser",
     "weight sync"), 1.0
)  # fmt: skip
UPDATE = ["student", "optimiser"]
ON_ROLLOUTS = ["coefficients (driver)", *UPDATE, "weight sync"]
GENERATION = ["generation: prefill", "generation: decode"]


def needs(method: str, **settings) -> Needs:
    teacher = TeacherConfig("teacher")
    return Needs.of(method_of(VAOPDConfig(teacher, "outputs", method=method, answers="answers", **settings)))


@pytest.mark.parametrize(
    "method, wanted, of_a_step, of_a_validation",
    [
        ("vaopd", Needs(), [*GENERATION, "teacher", *ON_ROLLOUTS], [*GENERATION, "teacher"]),
        ("opd", Needs(), [*GENERATION, "teacher", *ON_ROLLOUTS], [*GENERATION, "teacher"]),
        ("vaopd_mass", Needs(), [*GENERATION, "teacher", *ON_ROLLOUTS], [*GENERATION, "teacher"]),
        ("gkd", Needs(), [*GENERATION, "teacher", *ON_ROLLOUTS], [*GENERATION, "teacher"]),
        ("offpolicy_kd", Needs(samples=False), ["teacher", *ON_ROLLOUTS], [*GENERATION, "teacher"]),
        ("grpo", Needs(teacher_views=0, distils=False), [*GENERATION, *ON_ROLLOUTS], GENERATION),
        ("grpo_va", Needs(distils=False), [*GENERATION, "teacher", *ON_ROLLOUTS], [*GENERATION, "teacher"]),
        ("self", Needs(), [*GENERATION, "teacher", *ON_ROLLOUTS], [*GENERATION, "teacher"]),
        ("papo", Needs(teacher_views=0, student_views=2, distils=False), [*GENERATION, *ON_ROLLOUTS], GENERATION),
        ("base", Needs(samples=False, learns_by="nothing", distils=False), [], [*GENERATION, "teacher"]),
        ("cot_sft", Needs(samples=False, learns_by="fine_tuning", distils=False), UPDATE, [*GENERATION, "teacher"]),
    ],
)
def test_what_a_method_needs(method, wanted, of_a_step, of_a_validation):
    found = needs(method)
    assert found == wanted
    # the step on paper leaves the teacher out where no view is scored
    phases = {name: 1.0 for name in PHASES if name != "teacher" or found.teacher_views}
    assert list(found.of_a_step(phases)) == of_a_step
    assert list(found.of_a_validation(phases)) == of_a_validation


def test_settings_of_a_method_count():
    one_view = needs("opd", degraded_view=False)
    assert one_view == Needs(teacher_views=1)
    assert "teacher" not in one_view.of_a_validation(PHASES)  # no second view, no VA
    assert needs("base", degraded_view=False).teacher_views == 0
    assert needs("vaopd", reward_weight=0.5) == Needs(rewarded=True)


# Of 655 steps, validations of 200 problems: 27 in a run, one of what is trained beforehand or not at all.
SAYS = {
    "grpo": ("2.1 B parameters", "655 steps", "27 validations"),
    "grpo_va": ("8.8 B to 2.1 B parameters", "655 steps", "27 validations"),
    "papo": ("2.1 B parameters", "655 steps", "27 validations"),
    "offpolicy_kd": ("verl-vaopd answers: 8,404 answers", "16 prompts x 4 answers", "27 validations"),  # 2101 x 4
    "cot_sft": ("verl-vaopd answers: 8,404 answers", "fine-tuning", "655 steps", "1 validation of"),
    "base": ("8.8 B to 2.1 B parameters", "1 validation of"),
}


@pytest.mark.parametrize("method", SAYS)
def test_a_recipe_is_planned_with_every_method(method, capsys):
    assert main(["vaopd_8b_2b_geo3k", f"vaopd.method={method}", "vaopd.answers=answers"]) == 0
    shown = capsys.readouterr().out
    assert all(words in shown for words in SAYS[method]), shown
    assert ("\n  teacher " in shown) == ("8.8 B to" in shown) == (method not in ("grpo", "papo"))
    assert ("disk" in shown) == ("  step " in shown) == (method != "base")


def test_every_method_here_is_among_those_planned():
    assert set(method_names()) == {"vaopd", "vaopd_mass", "opd", "gkd", "self", *SAYS}


def test_a_student_that_teaches_itself_is_planned_with_its_own_size(capsys):
    assert main(["self_distillation"]) == 0
    assert "2.1 B to 2.1 B parameters" in capsys.readouterr().out
