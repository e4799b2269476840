"""The eight benchmarks: the toolkit's name, what groups the questions, the official metric, the paper's base figure."""

from collections.abc import Callable
from dataclasses import dataclass

from verl_vaopd.evaluation import parts
from verl_vaopd.evaluation.parts import Metric


@dataclass(frozen=True)
class Benchmark:
    """How one benchmark is read and scored.

    ``fields`` turns a row of the toolkit's table (column -> text) and the paths of its images into the fields the
    metric needs, ``group`` among them. ``reported`` names the parts whose mean is the score: empty means the first.
    """

    name: str
    dataset: str
    average: str
    base: float
    """Qwen3-VL-2B in the paper, avg@8 (Table 1)."""
    fields: Callable[[dict, list[str]], dict]
    metric: Metric = parts.accuracy
    reported: tuple[str, ...] = ()
    judged: bool = True
    """Whether a judge reads answers that rules cannot."""
    needs_judge: bool = False
    """Whether the toolkit cannot score it at all without a judge."""
    by_rule: bool = False
    """Whether the authors' release scores it by rule: no judge reads what rules cannot, which is wrong."""
    split: str | None = None
    """Only the rows of this split."""


def alone(row: dict, images: list[str]) -> dict:
    """A question that belongs to no group."""
    return {"group": row["index"]}


def same_image(row: dict, images: list[str]) -> dict:
    """Several questions about one diagram."""
    return {"group": " ".join(images)}


def mathverse_fields(row: dict, images: list[str]) -> dict:
    """The versions of one problem form a group."""
    return {"group": row.get("problem_index", row["index"]), "version": row["problem_version"]}


def hallusion_fields(row: dict, images: list[str]) -> dict:
    """The index ends in set, figure and question, as in ``VD_illusion_1_0_2_1``: set 0, figure 2, question 1."""
    of_set, figure, question = row["index"].split("_")[3:6]
    category = row["l2-category"]
    return {
        "group": f"{category}_{of_set}",
        "category": category,
        "set": of_set,
        "figure": figure,
        "question": question,
    }


def wemath_fields(row: dict, images: list[str]) -> dict:
    """The steps of a problem and the whole problem share its ID."""
    return {"group": row["ID"], "key": row["key"]}


BENCHMARKS = {
    each.name: each
    for each in (
        Benchmark(
            "WeMath",
            "WeMath",
            "Math",
            36.8,
            wemath_fields,
            parts.wemath,
            reported=("strict", "loose"),
            needs_judge=True,
            by_rule=True,
        ),
        Benchmark("MathVista", "MathVista_MINI", "Math", 63.9, alone, needs_judge=True),
        Benchmark(
            "MathVerse",
            "MathVerse_MINI",
            "Math",
            19.6,
            mathverse_fields,
            parts.mathverse,
            needs_judge=True,
            by_rule=True,
        ),
        Benchmark(
            "HallusionBench",
            "HallusionBench",
            "Visual",
            52.6,
            hallusion_fields,
            parts.hallusion,
            reported=("aAcc", "fAcc", "qAcc"),
        ),
        Benchmark("AI2D", "AI2D_TEST", "Visual", 77.8, same_image, by_rule=True),
        Benchmark("MMMU", "MMMU_DEV_VAL", "Visual", 49.1, alone, split="validation"),
        Benchmark("MMStar", "MMStar", "Visual", 56.1, alone),
        Benchmark("OCRBench", "OCRBench", "Visual", 85.9, alone, judged=False),
    )
}
AVERAGES = ("Math", "Visual")
