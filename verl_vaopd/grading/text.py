r"""One spelling for the many of an answer: unicode, LaTeX and markdown to a plain text.

The plain text keeps ``\frac{}{}``, ``\sqrt{}``, ``\{ \}`` and commands it does not know; symbols are single characters
(``π ∞ ∪ ∩ ∈ ∅ ∠ △ ° ± ≈``), relations ``< <= > >= = !=``, products ``*``, quotients ``/``.
"""

import re
import unicodedata

from verl_vaopd.grading.boxed import BOX, closing_brace

_SUPERSCRIPTS = {"⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"[n]: "0123456789+-n"[n] for n in range(13)}
_SUBSCRIPTS = {"₀₁₂₃₄₅₆₇₈₉"[n]: str(n) for n in range(10)}
_GREEK = "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega"
_CHARACTERS = str.maketrans(
    dict.fromkeys("−–—‐‑‒―", "-")
    | dict.fromkeys("×·⋅∙•∗✕", "*")
    | dict.fromkeys("≤≦⩽", "<=")
    | dict.fromkeys("≥≧⩾", ">=")
    | dict.fromkeys("‘’´", "'")
    | dict.fromkeys("“”", '"')
    | {
        "÷": "/",
        "∕": "/",
        "⁄": "/",
        "∶": ":",
        "≠": "!=",
        "。": ".",
        "∣": "|",
        "≅": "≈",
        "º": "°",
        "˚": "°",
        "′": "'",
        "″": '"',
        "¬": "\\neg ",
    }
    | {"⟨": "(", "⟩": ")", "〈": "(", "〉": ")", "∛": "√[3]", "∜": "√[4]", "ℝ": "\\mathbb{R}"}
    | {"∥": "\\parallel ", "⊥": "\\perp ", "∼": "\\sim "}
    | dict(zip("αβγδεζηθκλμνξρστφχψω", (f"\\{name} " for name in _GREEK.split()), strict=True))
)
_COMMANDS = (
    dict.fromkeys("dfrac tfrac cfrac".split(), "\\frac")
    | dict.fromkeys("cdot times ast".split(), "*")
    | dict.fromkeys("le leq leqslant leqq".split(), "<=")
    | dict.fromkeys("ge geq geqslant geqq".split(), ">=")
    | dict.fromkeys("ne neq".split(), "!=")
    | dict.fromkeys("approx simeq cong thickapprox".split(), "≈")
    | dict.fromkeys("circ degree deg".split(), "°")
    | dict.fromkeys("emptyset varnothing".split(), "∅")
    | dict.fromkeys("quad qquad enspace thinspace".split(), " ")
    | dict.fromkeys("mid vert lvert rvert".split(), "|")
    | dict.fromkeys("ldots dots cdots".split(), "\\ldots ")
    | dict.fromkeys(
        "displaystyle textstyle limits nolimits rm bf it tiny small large Large LARGE huge Huge".split(), ""
    )
    | dict.fromkeys("left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr".split(), "")
    | {
        "measuredangle": "∠",
        "prime": "'",
        "lnot": "\\neg ",
        "varphi": "\\phi ",
        "varepsilon": "\\epsilon ",
        "Omega": "Ω",
    }
    | {"div": "/", "lt": "<", "gt": ">", "pi": "π", "infty": "∞", "cup": "∪", "cap": "∩", "in": "∈", "pm": "±"}
    | {"angle": "∠", "triangle": "△", "langle": "(", "rangle": ")", "lbrace": "\\{", "rbrace": "\\}", "colon": ":"}
)
_STYLE = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|tt|up|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|operatorname\*?|bm|boldsymbol"
    r"|underline|fbox|emph)\s*\{"
)
_COLOUR = re.compile(r"\\(?:text)?color\{[a-zA-Z]*\}")
_COMMAND = re.compile(r"\\(?:\\|(left|right)\s*\.|([a-zA-Z]+))")
_ARC = re.compile(r"\\(?:overset|stackrel)\s*\{\s*\\frown\s*\}|\\(?:overarc|overparen|wideparen)(?![a-zA-Z])")
_SPACE = re.compile(r"\\([\\,;:> !])")
_ROOT = re.compile(r"(?:√|\\sqrt(?![a-zA-Z])|(?<![\\a-zA-Z])sqrt)\s*(\[[^\[\]{}]*\])?\s*")
_ABOUT = re.compile(r"^\s*(?:[=≈]|(?:about|around|approximately|approx\.?|roughly)\s|大约|约)\s*", re.IGNORECASE)
_RECURRING = re.compile(
    r"\.(\d*)(\\(?:dot|bar)\s*\{?\d+\}?(?:\d*\\dot\s*\{?\d\}?)?|(?<=\.)\(\d+\))"
)  # 0.\dot{3}  0.(3)
_OUTWARD = re.compile(r"(?:^|[∪∈=,]\s*)\](?=[^\[\]()]*[,;])|[,;][^\[\]()]*\[\s*(?:$|[∪,])")
_ENDS = re.compile(r"([\[\]])([^\[\]()]*[,;][^\[\]()]*)([\[\]])")
_BUILDER = re.compile(r"\{\s*\w+\s*(?:∈[^{}|:]*)?[|:][^{}]*[<>=∈][^{}]*\}")
_RADICAND = re.compile(r"\d+(?:\.\d+)?|[a-zA-Zπ]|\\[a-zA-Z]+")


def plain(text: str) -> str:
    """The answer in one spelling, spaces between words kept; "" if nothing is left of it."""
    text = _unicode(text)
    text = _without(text, re.compile(re.escape(BOX)), "")
    text = re.sub(r"(?<=\d)\s*(?:\{\s*,\s*\}|,\s*\\!)\s*(?=\d{3}(?!\d))", "", text)  # 1{,}000
    text = re.sub(r"(?<=\d)\s*\{\s*,\s*\}\s*(?=\d)", ".", text)  # 0{,}5
    text = _SPACE.sub(lambda match: {"\\": "\\\\", "!": ""}.get(match[1], " "), text.replace("~", " "))
    text = _without(_COLOUR.sub("", text), _STYLE, " ")
    text = _math_and_markdown(text)
    text = _COMMAND.sub(lambda match: "" if match[1] else _COMMANDS.get(match[2], match[0]), text)
    text = re.sub(r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", "π", _ARC.sub(r"\\widehat", text))
    text = _arguments(_roots(_numerals(text)))
    text = re.sub(r"\^\s*(?:\{\s*°\s*\}|°)|(?<=\d)\s*\^\s*(?:\{\s*o\s*\}|o(?![a-z]))", "°", text)
    text = re.sub(r"\^\s*(?:\{\s*('+)\s*\}|('+))", r"\1\2", text)
    text = re.sub(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d/])", lambda match: match[0].replace(" ", ""), text)
    text = re.sub(r"\.{3,}", r"\\ldots ", text).replace("\\%", "%")
    text = re.sub(r"(?<![a-zA-Z])per\s?cent\b", "%", text, flags=re.IGNORECASE)
    return _trimmed(" ".join(text.split()))


def _numerals(text: str) -> str:
    """Recurring decimals, powers of ten, infinity, parallels, open ends as ``]0,1[``: one spelling each."""
    if "." in text:
        text = _RECURRING.sub(lambda match: f".{match[1]}\\overline{{{re.sub('[^0-9]', '', match[2])}}}", text)
    text = re.sub(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", "*", text)
    text = re.sub(r"(?<![a-zA-Z\\])infinity(?![a-zA-Z])", "∞", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=[a-zA-Z])\s*//\s*(?=[a-zA-Z])", r"\\parallel ", text)
    if _OUTWARD.search(text):
        text = _ENDS.sub(lambda match: f"{'[('[match[1] == ']']}{match[2]}{'])'[match[3] == '[']}", text)
    return text


def key(text: str) -> str:
    """What two plain texts that say the same letter by letter have in common: no spaces but those between digits."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def _unicode(text: str) -> str:
    if text.isascii():
        return text
    text = "".join(each for each in text if unicodedata.category(each) not in ("Cf", "Cs", "Co"))
    text = re.sub(f"[{''.join(_SUPERSCRIPTS)}]+", lambda run: f"^{{{''.join(map(_SUPERSCRIPTS.get, run[0]))}}}", text)
    text = re.sub(f"[{''.join(_SUBSCRIPTS)}]+", lambda run: f"_{{{''.join(map(_SUBSCRIPTS.get, run[0]))}}}", text)
    text = re.sub(r"(?<=[①-⑳])\s*(?=[①-⑳])", ", ", text)  # ①③ is two
    text = re.sub("[¼-¾⅐-⅞]", lambda each: _fraction(*unicodedata.normalize("NFKC", each[0]).split("⁄")), text)
    text = text.translate(_CHARACTERS)  # before NFKC, which would take some apart
    return unicodedata.normalize("NFKC", text).translate(_CHARACTERS)


def _fraction(above: str, below: str) -> str:
    return f"\\frac{{{above}}}{{{below}}}"


def _without(text: str, opening: re.Pattern, around: str) -> str:
    """``text`` with the contents of each group that ``opening`` begins in the group's place."""
    while match := opening.search(text):
        end = closing_brace(text, match.end())
        inside = text[match.end() :] if end < 0 else text[match.end() : end]
        text = text[: match.start()] + around + inside + around + ("" if end < 0 else text[end + 1 :])
    return text


def _math_and_markdown(text: str) -> str:
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)
    if not re.fullmatch(r"(?:[^$]|\$(?=\s*[\d.]))*", text) or text.count("$") == 2 and text.rstrip().endswith("$"):
        text = re.sub(r"(?<!\\)\$", "", text)  # not an amount of dollars: around mathematics
    text = text.replace("\\$", "$").replace("`", "")
    text = re.sub(r"(?<![\w)\]}])\*\*|\*\*(?![\w(\[{\\+-])", "", text)
    return text.replace("**", "^")


def _roots(text: str) -> str:
    r"""Every root as ``\sqrt{}`` or ``\sqrt[n]{}``."""
    for match in reversed(list(_ROOT.finditer(text))):
        start, root = match.end(), "\\sqrt" + (match[1] or "")
        if text[start : start + 1] == "{":
            text = text[: match.start()] + root + text[start:]
        elif text[start : start + 1] == "(" and (end := _closing(text, start)) > 0:
            text = text[: match.start()] + root + "{" + text[start + 1 : end] + "}" + text[end + 1 :]
        elif inside := _RADICAND.match(text, start):
            text = text[: match.start()] + root + "{" + inside[0] + "}" + text[inside.end() :]
    return text


def _closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at ``start``, or -1."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return -1


def _arguments(text: str) -> str:
    r"""``\frac12`` and the like with their braces."""
    for match in reversed(list(re.finditer(r"\\frac(?![a-zA-Z])", text))):
        end = match.end()
        for _ in range(2):
            end += len(text[end:]) - len(text[end:].lstrip())
            if text[end : end + 1] == "{":
                end = closing_brace(text, end + 1) + 1
            elif single := re.compile(r"[0-9a-zA-Zπ]|\\[a-zA-Z]+").match(text, end):
                text = f"{text[:end]}{{{single[0]}}}{text[single.end() :]}"
                end += len(single[0]) + 2
            if end <= 0:
                break
    return re.sub(r"(\\frac|\\sqrt(?:\[[^\]]*\])?|[\^_])\s+(?=\{)", r"\1", text)


def _trimmed(text: str) -> str:
    """Without punctuation, quotes and a pair of braces around it."""
    text = _ABOUT.sub("", text)
    while True:
        before, text = text, text.strip(" \t*#_").rstrip(".,;:").lstrip('"')
        if text.endswith('"') and (before.startswith('"') or not text[:-1].rstrip()[-1:].isdigit()):  # not 5"
            text = text[:-1]
        text = text[1:-1] if re.fullmatch("'[^']*'", text) else text
        if _BUILDER.fullmatch(text):
            return f"\\{{{text[1:-1]}\\}}"
        if text.startswith("{") and closing_brace(text, 1) == len(text) - 1:
            text = text[1:-1]
        if text == before:
            return text
