"""The study's objectives are the methods', in parts that add up to the whole."""

import pytest
import torch

from tests.methods.test_objectives import ACTOR, ADVANTAGES, WEIGHTS, M, given, tokens
from verl_vaopd.methods.interface.policy import PolicyGradient
from verl_vaopd.study.objective import PARTS, PartedPolicy

VISUAL = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
MISREAD = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
HIGH = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])


def outcome(objective, **columns):
    hidden, head, ids = tokens(M)
    found = objective(given(hidden, head, ids, advantages=ADVANTAGES, visual=VISUAL, misread=MISREAD, **columns))
    return found, torch.autograd.grad(found.loss, hidden)[0]


def test_parts_of_a_policy_gradient_add_up_to_it():
    whole, gradient = outcome(PolicyGradient(ACTOR, 1.0))
    own, same = outcome(PartedPolicy(ACTOR, 1.0))
    assert torch.equal(own.loss, whole.loss) and torch.equal(same, gradient)
    parts = [outcome(PartedPolicy(ACTOR, 1.0, part=part))[1] for part in PARTS]
    torch.testing.assert_close(parts[0] + parts[1], gradient)
    visual = (VISUAL > 0) & (WEIGHTS > 0)
    assert parts[0][visual].any() and not parts[0][~visual].any() and not parts[1][visual].any()


@pytest.mark.parametrize("grouped", [True, False])
def test_a_high_group_is_counted_where_there_is_one(grouped):
    objective = PartedPolicy(ACTOR, 1.0, grouped=grouped)
    assert ("high_va" in objective.fields) == grouped
    sums = outcome(objective, **({"high_va": HIGH} if grouped else {}))[0].sums
    names = ("visual_tokens", "misread_tokens", "high_tokens", "high_visual", "high_misread")
    counted = {name: int(sums[name]) for name in names if name in sums}
    of_all = {"visual_tokens": 2, "misread_tokens": 1}
    assert counted == of_all | ({"high_tokens": 2, "high_visual": 1, "high_misread": 0} if grouped else {})
