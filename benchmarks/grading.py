"""Answers graded a second, over a mix of plausible ones; with ``--against FOLDER`` also by another checkout's code.

    python -m benchmarks.grading [--against FOLDER] [--save FILE]

Responses of some hundred words end in a box; half of them are right, in another spelling than the truth. One column
grades them one after the other, one from as many threads as verl's reward worker has. Each code runs in a process of
its own, once over a mix before it is measured. ``hanging``: 64 answers, all at once, of which none would ever end.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import ROOT, markdown_table, publish, run_in_fresh_process

KINDS = {
    "numbers": [("{n}", "{n}"), ("{n}.0", "{n}"), (r"\frac{{{n}}}{{4}}", "{n}/4"), ("{n},000", "{n}000")],
    "roots": [("{n}√3", r"{n} \sqrt {{ 3 }}"), (r"2\sqrt{{{n}}}", r"\sqrt{{4\cdot {n}}}")],
    "units": [(r"{n}\,\text{{cm}}", "{n}"), ("{n} cm", "{n} cm"), (r"{n}^\circ", "{n}"), (r"{n}\%", "{n}")],
    "names": [("x = {n}", "{n}"), (r"m\angle ABC = {n}^\circ", "{n}"), ("AB={n}", "{n}")],
    "letters": [("{letter}", "{letter}"), (r"\text{{({letter})}}", "{letter}"), ("{letter}. {n} cm", "{letter}")],
    "several": [("({n}, 2)", "({n},2)"), ("{n}, 3", "3, {n}"), ("0 < x < {n}", "(0, {n})")],
    "formulas": [("y = {n}x+1", "{n}x+1"), ("(x+{n})(x+1)", "x^2+{n}x+x+{n}"), ("{n}x+y=2", "2-y={n}x")],
    "functions": [(r"\sin x+{n}", r"{n}+\sin x"), (r"{n}\ln 2", r"{n}\ln(2)")],
}  # fmt: skip
WEIGHTS = (35, 15, 15, 10, 15, 5, 4, 1)
HANGING = r"\binom{{10^9}}{{10^8+{n}}}"


def mix(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """``count`` responses with their truths."""
    draw = random.Random(seed)
    words = "so the two sides of the triangle are equal and the sum of its angles is known".split()
    pairs = []
    for kind in draw.choices(list(KINDS), WEIGHTS, k=count):
        answer, truth = draw.choice(KINDS[kind])
        values = {"n": draw.randint(2, 99), "letter": draw.choice("ABCD")}
        others = {"n": draw.randint(2, 99), "letter": draw.choice("ABCD")}
        text = " ".join(draw.choices(words, k=300))
        pairs.append((f"{text} \\boxed{{{answer.format(**draw.choice([values, others]))}}}", truth.format(**values)))
    return pairs


def measure(case: dict) -> dict:
    sys.path.insert(0, case["code"])
    started = time.perf_counter()
    from verl_vaopd.data import reward

    assert Path(reward.__file__).is_relative_to(case["code"]), f"{case['code']} has no verl_vaopd"
    pairs = mix(case["answers"])

    def grade(pair):
        begun = time.perf_counter()
        right = reward.compute_score("any", *pair)["acc"]
        return right, time.perf_counter() - begun

    for pair in pairs:
        grade(pair)
    first = time.perf_counter() - started
    pairs = mix(case["answers"], seed=1)
    begun = time.perf_counter()
    graded = [grade(pair) for pair in pairs]
    alone = len(pairs) / (time.perf_counter() - begun)
    pairs = mix(case["answers"], seed=2)
    begun = time.perf_counter()
    with ThreadPoolExecutor(min(32, os.cpu_count() + 4)) as threads:
        list(threads.map(grade, pairs))
        together = len(pairs) / (time.perf_counter() - begun)
        begun = time.perf_counter()
        if case["hanging"]:
            list(threads.map(grade, [(HANGING.format(n=n), "1") for n in range(9, 73)]))
    return {
        "alone": alone,
        "together": together,
        "right": statistics.mean(right for right, _ in graded),
        "slowest": max(seconds for _, seconds in graded),
        "median": statistics.median(seconds for _, seconds in graded),
        "first": first,
        "hanging": time.perf_counter() - begun if case["hanging"] else None,
    }


def cells(name: str, result: dict) -> list:
    if "failed" in result:
        return [name, result["failed"]]
    return [
        name,
        f"{result['alone']:.0f}",
        f"{result['together']:.0f}",
        f"{result['right']:.1%}",
        f"{1000 * result['median']:.2f}",
        f"{1000 * result['slowest']:.0f}",
        f"{result['first']:.1f}",
        "not run" if result["hanging"] is None else f"{result['hanging']:.1f}",
    ]


HEADING = [
    "code",
    "answers a second",
    "in threads",
    "found right",
    "median, ms",
    "slowest, ms",
    "first mix, s",
    "64 hanging, s",
]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--against", help="a checkout whose code is measured too; hanging answers it does not get")
    parser.add_argument("--save", help="write the page to this file")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    settings = parser.parse_args(arguments)
    if settings.case:
        print(json.dumps(measure(json.loads(settings.case))))
        return
    rows = []
    for name, code in (("this", ROOT), (settings.against, settings.against)):
        if code:
            case = {"code": str(Path(code).resolve()), "answers": settings.answers, "hanging": code == ROOT}
            rows.append(cells(Path(name).name, run_in_fresh_process("benchmarks.grading", case)))
    publish("Answers graded a second", settings, [markdown_table(HEADING, rows)])


if __name__ == "__main__":
    main()
