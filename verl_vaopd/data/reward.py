"""Rule-based reward: is the last boxed answer right?"""

from verl_vaopd.grading.boxed import last_boxed
from verl_vaopd.grading.grading import same_answer


def compute_score(data_source, solution_str: str, ground_truth: str, extra_info=None, **kwargs) -> dict[str, float]:
    """Score one response, of any data set; callable from any thread.

    Returns:
        ``score`` and ``acc``: 1.0 if the last boxed answer is the same as ``ground_truth`` (grading/), else 0.0,
        also where there is no truth or it cannot be read; ``format``: 1.0 if there is a boxed answer at all. Format
        never enters the score.
    """
    answer = last_boxed(solution_str)
    truth = "" if ground_truth is None else str(ground_truth)
    accuracy = float(answer is not None and same_answer(answer, truth))
    return {"score": accuracy, "acc": accuracy, "format": float(answer is not None)}
