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
        # reasons and leads
        ("The answer is 5 because x.", "5"),
        ("The answer is 5, since 2+3=5.", "5"),
        ("The answer is B because it fits.", "B"),
        ("The answer is therefore 5", "5"),
        ("The answer is thus, $x=5$.", "$x=5$"),
        ("Answer: 5 (since 2+3=5)", "5"),
        ("答案是5，因为2+3=5", "5"),
        ("Answer: because it is so", "because it is so"),
        ("【答案】B", "B"),
        ("【答案】：B", "B"),
        ("答案选B", "B"),
        ("答案应为5。", "5"),
        # weaker ones, where nothing else is
        ("Therefore, x = 5", "x = 5"),
        ("2 + 3 = 5\n**Hence x = 5.**\n", "x = 5"),
        ("所以x=5", "x=5"),
        ("Therefore, x = 5\nand more", "Therefore, x = 5\nand more"),  # not the last line
        ("Sole 5", "Sole 5"),
        ("**Final Answer**\n5", "5"),
        ("### Final Answer\n\n5 cm.", "5 cm"),
        ("**Answer:**\n42", "42"),
        ("Answer:\n42 because so", "42"),
        ("<answer>5</answer>", "5"),
        ("<think>no</think>\n<answer>\n(B)\n</answer>", "(B)"),
        ("<answer>5</answer> \\boxed{6}", "6"),
        ('{"answer": "5"}', "5"),
        ('```json\n{"reason": "x", "answer": 5}\n```', "5"),
        (r'{"final_answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
        (r'{"answer": "\sqrt{2}"}', r"\sqrt{2}"),
        (r"So \boxed{5", r"\boxed{5"),
        (r"So \boxed 5.", "5"),
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
    "part",
    ["\\boxed{", "Answer: ", "answer is", "{", "\\", "final ", "the ", "Answer:\n", " *", "答案"]
    + [
        "<answer>",
        '"answer": "',
        "So ",
        "So\n",
        "\n",
        "Answer ",
        "Answer:  \n",
        "\\boxed ",
        "Answer: 5 ",
        "(",
        ", since",
    ],
)
def test_a_long_text_is_read_in_one_pass(part):
    """A pass for each of its boxes would take hours."""
    for text in (part * 50_000, part + " " * 200_000 + "x\ny"):
        assert isinstance(committed_answer(text), str)
