"""Values of formulas: exact where they are rational, none where they are not worked out."""

from decimal import Decimal
from fractions import Fraction

import pytest

from verl_vaopd.formulas.arithmetic import multiply, root, same
from verl_vaopd.formulas.brackets import balanced, split
from verl_vaopd.formulas.points import SIGN, same_formula, same_relation
from verl_vaopd.formulas.values import rounds_to, value


@pytest.mark.parametrize(
    "text, number",
    [
        ("1/2*4", Fraction(2)),  # from left to right
        (r"2\frac{1}{2}", Fraction(5, 2)),  # 2 + 1/2
        (r"-2\frac{1}{2}", Fraction(-5, 2)),
        (r"2\frac{5}{2}", Fraction(5)),  # not below 1: a product
        ("2 1/2", Fraction(5, 2)),
        ("2(1/2)", Fraction(1)),
        ("-2^2", Fraction(-4)),
        ("2^3^2", Fraction(512)),  # 2^9
        ("2^{-3}", Fraction(1, 8)),
        ("8^{2/3}", Fraction(4)),  # (8^(1/3))^2
        (r"\sqrt[3]{-8}", Fraction(-2)),
        (r"\sqrt{\frac{9}{16}}", Fraction(3, 4)),
        (r"0.1\overline{6}", Fraction(1, 6)),  # 1/10 + 6/90
        ("1.5e3", Fraction(1500)),
        ("5!/3!", Fraction(20)),
        ("10^{400}", Fraction(10**400)),
        ("1^{99999999999}", Fraction(1)),
        ("0.1+0.2", Fraction(3, 10)),
    ],
)
def test_exact(text, number):
    assert value(text) == number and isinstance(value(text), Fraction)


@pytest.mark.parametrize(
    "text",
    ["", "x", "2 3", "5 -", "1/0", "0^{-1}", "0^{-0.5}", r"\sqrt{-1}", "9^{9^{9}}", "2^{99999}", "99999!", "((1)"]
    + [r"\sin 1", "(" * 300 + "1" + ")" * 300, "-" * 5 + "^", r"0.333\ldots", "1e9999"],
)  # fmt: skip
def test_no_value(text):
    assert value(text) is None


def test_roots_have_sixty_digits():
    assert str(value(r"\sqrt{2}")).startswith("1.41421356237309504880168872420969807856967187537694")
    assert same(value(r"\sqrt{2}\sqrt{3}"), value(r"\sqrt{6}"))
    assert not same(
        value(r"\sqrt{2}"), Fraction("1.4142135623730950488016887242096980785")
    )  # differs at the 38th place
    assert same(multiply(root(Fraction(2), 2), root(Fraction(2), 2)), Fraction(2))


def test_a_decimal_of_six_digits_stands_for_a_number():
    third, pi = Fraction(1, 3), value("π")
    assert rounds_to(third, "0.333333") and not rounds_to(third, "0.33333") and not rounds_to(third, "0.333334")
    assert rounds_to(Fraction(2, 3), "0.666667") and rounds_to(Fraction(2, 3), "0.666666")  # rounded, cut
    assert rounds_to(pi, "3.14159") and not rounds_to(pi, "3.14160") and not rounds_to(pi, "-3.14159")
    assert not rounds_to(Fraction(1234567), "1234566.9") and not rounds_to(third, "333333")


def test_formulas_are_compared_at_points():
    assert same_formula("(x+1)^{2}", "x^2+2x+1") is True
    assert same_formula("xy", "yx") is True and same_formula("ab", "a+b") is False
    assert same_formula("X", "x") is False
    assert same_formula(r"\sqrt{x^{2}}", "x") is False  # at points below 0
    assert same_formula(r"\sqrt{1-x^{2}}", r"\sqrt{(1-x)(1+x)}") is True  # below 1 only
    assert same_formula("(1+i)^2", "2i") is None  # i * i is no matter of points
    assert same_formula(r"\sin x", r"\sin x+0") is None
    assert same_formula("10^{100}+x", "10^{100}") is None  # x is lost beside it
    assert same_formula("x_1+x_{2}", "x_{2}+x_1") is True


def test_relations_are_multiples_of_each_other():
    assert same_relation("x+y=2", "4=2x+2y") is True and same_relation("x+y=2", "x+y=3") is False
    assert same_relation("-x<-3", "x>3") is True and same_relation("x<3", "x>3") is False
    assert same_relation("x<=3", "x<3") is False and same_relation("x<3", "x=3") is False
    assert same_relation("x=x", "y=y") is None


def test_split_outside_brackets():
    assert split("(1,2), 3", SIGN) == ["(1,2), 3"]
    assert split("x <= f(y=2)", SIGN, keep=True) == ["x", "<=", "f(y=2)"]
    assert balanced("[0,1)") and not balanced(")(") and not balanced("((")


def test_a_large_number_is_not_worked_out_in_time_lost():
    roots = "+".join(rf"\sqrt{{{n}^{{999}}}}" for n in range(2, 40))
    assert isinstance(value(roots), Decimal)
