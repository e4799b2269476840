"""Accuracy is judged on the first committed answer, or the last box; format is reported apart."""

import pytest

from verl_vaopd.data.reward import compute_score


@pytest.mark.parametrize(
    "text, truth, accuracy, form",
    [
        (r"\boxed{42}", "42", 1.0, 1.0),
        (r"\boxed{43}", "42", 0.0, 1.0),
        ("42", "42", 1.0, 0.0),  # no commitment: as it is
        ("x = 42", "42", 1.0, 0.0),
        ("it may be 42, or not", "42", 0.0, 0.0),
        ("The answer is 42.", "42", 1.0, 0.0),
        (r"\boxed{0.5}", r"\frac{1}{2}", 1.0, 1.0),
        (r"\boxed{42} or \boxed{41}", "42", 1.0, 1.0),
        (r"\boxed{41} or \boxed{42}", "42", 0.0, 1.0),
        (r"\boxed{}", "42", 0.0, 1.0),
        (r"\boxed{42}", "", 0.0, 1.0),
        (r"\boxed{42}", None, 0.0, 1.0),
        (r"\boxed{42}", 42, 1.0, 1.0),
        (r"\boxed{(x+y+1)^{500}}", "5", 0.0, 1.0),
    ],
)
def test_score(text, truth, accuracy, form):
    assert compute_score("any", text, truth) == {"score": accuracy, "acc": accuracy, "format": form}


@pytest.mark.parametrize(
    "text, accuracy",
    [
        (r"\boxed{41} or \boxed{42}", 1.0),
        (r"\boxed{42} or \boxed{41}", 0.0),
        ("42", 0.0),
        (r"\boxed{42} \boxed{4", 0.0),
    ],
)
def test_the_last_box_can_be_asked_for(text, accuracy):
    assert compute_score("any", text, "42", answer="last_boxed")["acc"] == accuracy


def test_another_answer_is_refused_by_name():
    with pytest.raises(ValueError, match="reward_kwargs.answer is 'first': use first_committed or last_boxed"):
        compute_score("any", "42", "42", answer="first")


def test_verl_hands_the_option_over():
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    function = {"path": "pkg://verl_vaopd.data.reward", "name": "compute_score"}
    for kwargs, accuracy in (({}, 0.0), ({"answer": "last_boxed"}, 1.0)):
        config = OmegaConf.create({"reward": {"custom_reward_function": {**function, "reward_kwargs": kwargs}}})
        call = get_custom_reward_fn(config)
        score = call(data_source="any", solution_str=r"\boxed{1} \boxed{2}", ground_truth="2", extra_info={})
        assert score["score"] == accuracy
