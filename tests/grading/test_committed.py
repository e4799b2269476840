"""The first committed answer of a text, in the order of the output."""

import pytest

from verl_vaopd.grading.committed import committed_answer


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"so \boxed{42}", "42"),
        (r"\boxed{1}, no: \boxed{2}", "1"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}"),
        (r"an unbalanced \boxed{ then \boxed{3}", "3"),
        (r"put it in \boxed{}: \boxed{5}", "5"),  # an empty box commits to nothing
        ("Answer: 42", "42"),
        ("ANSWER: b", "b"),
        ("**Answer:** 42", "42"),
        ("### Final answer: 12 ###", "12"),
        ("The answer is 42. I hope that this helps.", "42"),
        ("The answer is 3.5 cm.", "3.5 cm"),
        ("the final answer is: $x=5$.", "$x=5$"),
        ("The correct answer is (B).", "(B)"),
        ("答案：5厘米。", "5厘米"),
        ("答案是 B", "B"),
        ("所以最终答案是3。解毕", "3"),
        ("正确答案为C。", "C"),
        ("回答：5", "5"),
        ("Answer：５", "５"),
        # a box directly behind the marker
        (r"Final answer: \boxed{5} cm", "5"),
        (r"**Final Answer**: $\boxed{x}$", "x"),
        (r"The answer is \(\boxed{9}\).", "9"),
        (r"最终答案：\boxed{3}", "3"),
        (r"Answer: x = \boxed{5}", r"x = \boxed{5}"),  # not directly
        # order
        ("\\boxed{1}\nAnswer: 2", "1"),
        ("Answer: 2\n\\boxed{1}", "2"),
        ("Answer: 2\nFinal answer: 3", "2"),
        # a marker with nothing behind it on its line
        ("Answer:\n42 \\boxed{7}", "7"),
        ("Answer: ** \nFinal answer: 6", "6"),
        # none
        ("it is 42", "it is 42"),
        (r"\boxed{4", r"\boxed{4"),
        ("Answer:", "Answer:"),
        ("Answers: 3", "Answers: 3"),
        ("the answer isn't 5", "the answer isn't 5"),
        ("", ""),
    ],
)
def test_committed_answer(text, answer):
    assert committed_answer(text) == answer


@pytest.mark.parametrize(
    "part", ["\\boxed{", "Answer: ", "answer is", "{", "\\", "final ", "the ", "Answer:\n", " *", "答案"]
)
def test_a_long_text_is_read_in_one_pass(part):
    """A pass for each of its boxes would take hours."""
    assert isinstance(committed_answer(part * 50_000), str)
