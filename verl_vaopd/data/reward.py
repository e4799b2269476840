"""Rule-based reward: is the last boxed answer right?"""

from mathruler.grader import extract_boxed_content, grade_answer


def last_boxed(text: str) -> str | None:
    """Content of the last ``\\boxed{...}`` with balanced braces, or None."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    content = extract_boxed_content(text[start:])
    return None if content == "None" else content


def compute_score(data_source, solution_str: str, ground_truth: str, extra_info=None, **kwargs) -> dict[str, float]:
    """Score one response.

    Returns:
        ``score`` and ``acc``: 1.0 if mathruler grades the last boxed answer equal to ``ground_truth``, else 0.0;
        ``format``: 1.0 if there is a boxed answer at all. Format never enters the score.
    """
    answer = last_boxed(solution_str)
    accuracy = float(answer is not None and bool(grade_answer(answer, str(ground_truth))))
    return {"score": accuracy, "acc": accuracy, "format": float(answer is not None)}
