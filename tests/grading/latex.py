"""Formulas, answers and rubbish as a student may write them, for hypothesis."""

from hypothesis import strategies as st

from verl_vaopd.formulas.unit_names import NAMES
from verl_vaopd.grading.text import _COMMANDS

ATOMS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.sampled_from(
        [*"xyzabcABCXin", r"\pi", "π", r"\theta", r"\infty", "e", r"x_1", "0", "1", "9", "-1", r"\alpha'", "½"]
    ),
    st.sampled_from(
        ["10^{400}", "9^{9^{9}}", "99999!", "1e999", r"\frac12", "1,000", "1{,}000", "0.333", "30°", "50%"]
    ),
)


AROUND = [
    *(
        "({})",
        "[{}]",
        r"\{{{}\}}",
        r"\left({}\right)",
        r"\sqrt{{{}}}",
        r"\sqrt[3]{{{}}}",
        "√{}",
        "√({})",
        "|{}|",
        "({},1]",
    ),
    *(
        "{}!",
        "{}!!",
        "{}^{{{}^{{9}}}}",
        r"\text{{{}}}",
        r"\mathbf{{{}}}",
        r"\boxed{{{}}}",
        "${}$",
        "**{}**",
        "{}^2",
        "-{}",
    ),
    *(r"\sin {}", r"\ln({})", r"\log_2 {}", "x={}", "f({})={}", r"\overline{{{}}}", r"{} \text{{ cm}}^2", "{} apples"),
    *(r"\sum_{{n=1}}^{{{}}} n", r"\int_0^{{{}}} x dx", r"\lim_{{x\to {}}} x", r"\binom{{{}}}{{2}}", "{{{}}}", "({}"),
    *(r"\begin{{pmatrix}}{}&1\\2&{}\end{{pmatrix}}", r"\prod_{{k=1}}^{{999999}} {}", "A. {}", "(B) {}"),
]


def _grown(inner):
    binary = st.sampled_from(
        [*"+-*/^=<>,", r" \cdot ", r" \times ", r" \div ", r" \le ", r" \ne ", r" \pm ", " or ", " and ", ":"]
    )
    around = st.sampled_from(AROUND)
    return st.one_of(
        st.tuples(inner, binary, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: rf"\frac{{{two[0]}}}{{{two[1]}}}"),
        st.tuples(inner, st.sampled_from(["^", "^{", "_"]), inner).map(
            lambda t: t[0] + t[1] + t[2] + "}" * (t[1] == "^{")
        ),
        st.tuples(around, inner).map(lambda two: two[0].format(*[two[1]] * two[0].count("{}"))),
        st.lists(inner, min_size=2, max_size=5).map("+".join),
        st.lists(inner, min_size=2, max_size=4).map(", ".join),
    )


FORMULAS = st.recursive(ATOMS, _grown, max_leaves=12)
PIECES = st.sampled_from(
    [*r"\{}[]()^_$%&#!*+-/=<>|.,:;'~`0123456789xyzABC√π°±≈∠∪∈∞÷×、，（）答案 "]
    + [f"\\{name} " for name in _COMMANDS]
    + [
        *NAMES,
        "Answer:",
        "The answer is ",
        "答案：",
        r"\boxed{",
        r"\frac",
        r"\sqrt",
        "\\\\",
        " and ",
        " or ",
        "Option ",
        "\n",
        "\0",
    ]
)
RUBBISH = st.one_of(st.lists(PIECES, max_size=60).map("".join), st.text(max_size=60))
LONG = st.tuples(PIECES, st.lists(PIECES, min_size=1, max_size=3), st.integers(1, 600), PIECES).map(
    lambda four: (four[0] + "".join(four[1]) * four[2])[:490] + four[3]
)
ANSWERS = st.one_of(FORMULAS, FORMULAS, RUBBISH, LONG)
