"""Rule-based reward: is the answer of a response right?"""

from verl_vaopd.grading.boxed import boxes, last_boxed
from verl_vaopd.grading.committed import committed_answer
from verl_vaopd.grading.grading import same_answer

ANSWERS = {"first_committed": committed_answer, "last_boxed": last_boxed}
"""What of a response is graded."""


def compute_score(
    data_source, solution_str: str, ground_truth: str, extra_info=None, answer: str = "first_committed", **kwargs
) -> dict[str, float]:
    """Score one response, of any data set; callable from any thread, ends within about a second.

    Args:
        answer: what is graded: ``first_committed`` (``grading/committed.py``; a response without commitment as it is),
            or ``last_boxed``. Set by ``reward.custom_reward_function.reward_kwargs.answer``.
    Returns:
        ``score`` and ``acc``: 1.0 if that answer is the same as ``ground_truth`` (``grading/``, docs/data.md), else
        0.0, also where there is no truth or it cannot be read; ``format``: 1.0 if there is a boxed answer at all.
        Format never enters the score.
    Raises:
        ValueError: another ``answer``.
    """
    if answer not in ANSWERS:
        raise ValueError(
            f"reward.custom_reward_function.reward_kwargs.answer is {answer!r}: use {' or '.join(ANSWERS)}"
        )
    given = ANSWERS[answer](solution_str)
    truth = "" if ground_truth is None else str(ground_truth)
    accuracy = float(given is not None and same_answer(given, truth))
    return {"score": accuracy, "acc": accuracy, "format": float(bool(boxes(solution_str)))}
