"""What a method may be, and what is refused by name."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.settings.test_config import REQUIRED
from verl_vaopd.checks.start import check_settings
from verl_vaopd.methods import Distillation, Method, Step, Weighed, method_class, method_names, method_of
from verl_vaopd.methods.interface.checked import checked
from verl_vaopd.methods.interface.distillation import Divergence
from verl_vaopd.methods.interface.followed import unfollowed
from verl_vaopd.methods.interface.policy import PolicyGradient
from verl_vaopd.settings.compose import compose
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.of_methods import GKDConfig, MassConfig, PAPOConfig
from verl_vaopd.settings.teacher import TeacherConfig

OUTSIDE = str(Path(__file__).parent / "outside")
IMPORT = "from verl_vaopd.methods import "
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
GOOD = torch.tensor([[0.2, 0.2, 0.1], [0.3, 0.2, 0.0]])


def settings(**given) -> VAOPDConfig:
    return VAOPDConfig(teacher=TeacherConfig(path="t"), output_dir="x", **given)


def step(**columns) -> Step:
    columns = columns or {"logp_original": -GOOD, "logp_pixelated": -2 * GOOD}
    return Step(columns, MASK, ["a", "a"], None)


@pytest.mark.parametrize("name", method_names())
def test_every_method_says_what_it_is(name):
    method = method_of(settings(method=name))
    assert method.name == name and method.title and method.answers_by in ("student", "teacher")
    assert method.learns_by in ("rollouts", "fine_tuning", "nothing") and method.teacher_views in (0, 1, 2)


TABLE = {  # answers by, learns by, teacher's views, student's views, whether the teacher's hidden states are needed
    "base": ("student", "nothing", 2, 1, False),
    "cot_sft": ("teacher", "fine_tuning", 2, 1, False),
    "offpolicy_kd": ("teacher", "rollouts", 2, 1, True),
    "opd": ("student", "rollouts", 2, 1, True),
    "gkd": ("student", "rollouts", 2, 1, True),
    "grpo": ("student", "rollouts", 0, 1, False),
    "grpo_va": ("student", "rollouts", 2, 1, False),
    "papo": ("student", "rollouts", 0, 2, False),
    "self": ("student", "rollouts", 2, 1, True),
    "vaopd": ("student", "rollouts", 2, 1, True),
    "vaopd_mass": ("student", "rollouts", 2, 1, True),
}


def test_the_methods_are_those_of_the_table():
    for name, wanted in TABLE.items():
        m = method_of(settings(method=name))
        assert (m.answers_by, m.learns_by, m.teacher_views, m.student_views, m.teacher_hidden) == wanted, name
    assert set(TABLE) == set(method_names())


def test_without_the_degraded_view_a_teacher_has_one_view_or_is_not_loaded():
    views = {name: method_of(settings(method=name, degraded_view=False)).teacher_views for name in TABLE}
    one = ("opd", "vaopd", "vaopd_mass", "gkd", "offpolicy_kd", "self")
    assert views == {**dict.fromkeys(TABLE, 0), **dict.fromkeys(one, 1), "grpo_va": 2}  # which refuses it


@pytest.mark.parametrize(
    "source, name, says",
    [
        (None, "pkg://no_such_module:A", "cannot be imported"),
        ("A = 3", "pkg://own:B", "holds no B"),
        ("A = 3", "pkg://own:A", "must be a subclass of verl_vaopd.methods.Method, not 3"),
        ("class A: pass", "pkg://own:A", "must be a subclass"),
        (
            "from verl_vaopd.methods import Method\nclass A(Method): pass",
            "pkg://own:A",
            "lacks objective, weigh, title",
        ),
        (
            "from verl_vaopd.methods import Distillation\nclass A(Distillation):\n title = 'A'",
            "pkg://own:A",
            "lacks weigh",
        ),
        (None, "pkg://own", "must read pkg://module:Class"),
        (None, "pkg://own:", "must read pkg://module:Class"),
        ("import nothing_of_that_name", "pkg://own:A", "nothing_of_that_name"),
        (None, "vaopdd", "must be one of base, cot_sft, gkd, grpo"),
    ],
)
def test_a_wrong_object_is_refused_before_a_start(source, name, says, tmp_path, monkeypatch):
    module = f"own_{abs(hash((source, name)))}"  # modules stay imported
    if source:
        (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    name = name.replace("own", module)
    config = compose("tiny_cpu", [*REQUIRED, f"vaopd.method='{name}'"])
    with pytest.raises(ValueError, match="vaopd.method=") as refused:
        check_settings(config)
    assert says.replace("own", module) in str(refused.value)


def test_a_method_from_outside_passes_the_checks(monkeypatch):
    monkeypatch.syspath_prepend(OUTSIDE)
    own = "vaopd.method=pkg://entropy_weighted:EntropyWeighted"
    method = check_settings(compose("tiny_cpu", [*REQUIRED, own, "+vaopd.method_settings.floor=0.5"]))
    assert method.title == "Entropy-weighted OPD" and method.score_names[-1] == "entropy"
    # Weights by hand: entropy 1, 0, 0 and floor 0.5 on three tokens are 1.5, 0.5, 0.5 of 2.5, times 1 / K = 1/2.
    entropy = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    given = step(logp_original=-GOOD, logp_pixelated=-2 * GOOD, entropy=entropy)
    weights = checked(method, method.weigh(given), given, Divergence()).student["token_weights"]
    assert weights.tolist()[0] == pytest.approx([0.3, 0.1, 0.1])
    assert weights.tolist()[1] == pytest.approx([0.25, 0.25, 0.0])


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["vaopd.method=grpo", "vaopd.reward_weight=0.1"], "vaopd.reward_weight=0.1: must be 0: grpo takes no reward"),
        (["vaopd.reward_weight=0.1", "actor_rollout_ref.actor.ppo_mini_batch_size=8"], "with vaopd.reward_weight=0.1"),
        (["+vaopd.method_settings.a=1"], "vaopd.method_settings={'a': 1}: must be empty: vaopd reads none"),
        (
            ["vaopd.method=gkd", "vaopd.gkd.token_weights=visual_advantage", "vaopd.degraded_view=false"],
            "degraded_view=False",
        ),
        (["vaopd.method=gkd", "vaopd.mask_tokens=random"], "vaopd.mask_tokens='random'"),
    ],
)
def test_settings_that_a_method_cannot_have_are_refused(overrides, says):
    with pytest.raises(ValueError) as refused:
        check_settings(compose("tiny_cpu", [*REQUIRED, *overrides]))
    assert says in str(refused.value)


UNREAD = [
    ("vaopd", "mass.share=0.5"),
    ("vaopd", "papo.mask_ratio=0.5"),
    ("vaopd", "gkd.beta=0.1"),
    ("vaopd", "mask_seed=7"),
    ("vaopd rollout_weighting=false", "temperature=0.5"),
    ("vaopd token_grouping=false", "high_weight=0.4"),
    ("vaopd_mass", "high_fraction=0.3"),
    ("opd", "rollout_weighting=false"),
    ("opd", "mask_fraction=0.2"),
    ("opd degraded_view=false", "degradation=blank"),
    ("gkd", "high_weight=0.4"),
    ("grpo", "papo.entropy_weight=0"),
    ("papo", "degradation_ratio=0.5"),
    ("cot_sft answers=a", "eps=1e-3"),
]
READ = [
    ("vaopd", "mass.share=0.9"),  # its default
    ("vaopd", "temperature=0.5 eps=1e-3 high_fraction=0.3 high_weight=0.4 score=distribution"),
    ("vaopd", "mask_seed=42"),  # that of the data, below
    ("vaopd_mass", "mass.share=0.5 mass.tokens=random mask_seed=7 high_weight=0.4"),
    ("opd", "mask_tokens=random mask_fraction=0.2 mask_seed=7 high_fraction=0.3"),
    ("gkd", "gkd.beta=0.1 gkd.token_weights=visual_advantage high_weight=0.4"),
    ("papo", "papo.mask_ratio=0.5"),
    ("base", "degraded_view=false"),
    ("offpolicy_kd answers=a", "degradation=blank"),
]


def refused_by(method: str, overrides: str) -> list[str]:
    """Names of settings that the method refuses."""
    given = OmegaConf.to_container(OmegaConf.from_dotlist(f"method={method} {overrides}".split()))
    for name, section in (("mass", MassConfig), ("papo", PAPOConfig), ("gkd", GKDConfig)):
        given[name] = section(**given.get(name, {}))
    config = OmegaConf.create({"data": {"seed": 42}})
    return [name for wrong, name, *_ in unfollowed(method_of(settings(**given)), config) if wrong]


@pytest.mark.parametrize("method, override", UNREAD)
def test_a_setting_that_is_set_and_not_read_is_refused(method, override):
    assert refused_by(method, override) == [f"vaopd.{override.split('=')[0]}"]


@pytest.mark.parametrize("method, overrides", READ)
def test_a_setting_that_is_read_is_not_refused(method, overrides):
    assert refused_by(method, overrides) == []


def test_an_unread_setting_is_refused_before_a_start():
    says = "vaopd.mass.share=0.5: must be 0.9, its default: opd does not read it"
    with pytest.raises(ValueError, match=says):
        check_settings(compose("tiny_cpu", [*REQUIRED, "vaopd.method=opd", "vaopd.mass.share=0.5"]))


def weighed(token_weights, **more) -> Weighed:
    return Weighed({"token_weights": token_weights, "high_va": GOOD, **more})


class Plain(Distillation):
    title = "plain"
    given: dict = {}

    def weigh(self, step: Step):
        return self.given


@pytest.mark.parametrize(
    "given, says",
    [
        ({"token_weights": GOOD}, "must return a Weighed, not dict"),
        (Weighed({"high_va": GOOD}), "leaves out token_weights"),
        (Weighed({"token_weights": GOOD}), "leaves out high_va, which its objective reads"),
        (
            Weighed({"token_weights": GOOD, "high_va": GOOD, "more": GOOD}),
            "gives more, which its objective does not read",
        ),
        (
            Weighed({"token_weights": GOOD[:, :2], "high_va": GOOD}),
            "token_weights of shape [2, 2], the step's tokens are [2, 3]",
        ),
        (Weighed({"token_weights": [0.1], "high_va": GOOD}), "token_weights of shape list"),
        (weighed(GOOD.where(GOOD != 0.3, torch.nan)), "not finite on 1 tokens"),
        (weighed(GOOD + 0.1), "not 0 off the mask"),
        (weighed(-GOOD), "negative token_weights"),
        (weighed(0 * GOOD), "all 0"),
    ],
)
def test_what_a_method_returns_is_refused_by_name(given, says):
    method = Plain(settings(method="pkg://own:Plain"))
    with pytest.raises(ValueError) as refused:
        checked(method, given, step(), Divergence())
    assert str(refused.value).startswith("vaopd.method=pkg://own:Plain: weigh() ") and says in str(refused.value)


def test_off_the_mask_nothing_is_looked_at_but_the_weights():
    """A NaN of padding in another column harms nobody."""
    high = GOOD.clone()
    high[1, 2] = torch.nan
    checked(Plain(settings()), Weighed({"token_weights": GOOD, "high_va": high}), step(), Divergence())


def test_weight_0_of_a_reward_changes_nothing():
    """Neither what is read, nor what is written, nor what is minimised."""
    plain, rewarded = method_of(settings()), method_of(settings(reward_weight=0.5))
    assert plain.reads == ("logp_original", "logp_pixelated") and type(plain.objective(None, 0.7)) is Divergence
    assert set(plain.weigh(step()).student) == {"token_weights", "high_va"}
    assert rewarded.reads == ("logp_original", "logp_pixelated", "rm_scores")
    both = rewarded.objective(None, 0.7)
    assert both.fields == ("high_va", "teacher_hidden", "advantages", "reward_weights")
    assert isinstance(both.policy, PolicyGradient) and both.policy.weighed_by == "reward_weights"


def test_method_is_abstract():
    assert (
        Method.__abstractmethods__ == {"weigh", "objective"} and method_class("opd").__abstractmethods__ == frozenset()
    )
