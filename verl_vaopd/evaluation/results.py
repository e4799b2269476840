"""Scores of a benchmark from its verdicts, or the reason why there is none; the table and the files."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from verl_vaopd.evaluation.benchmarks import AVERAGES, BENCHMARKS, Benchmark
from verl_vaopd.evaluation.parts import Part
from verl_vaopd.evaluation.statistics import LEVEL, Score, average, score
from verl_vaopd.serving import EvaluationError

RESULTS, QUESTIONS, TABLE = "results.json", "questions.jsonl", "table.txt"
MOST_FAILED = 0.005


@dataclass
class Counts:
    """Of one benchmark over all passes. ``judge_failed`` counts requests to the judge, the rest answers."""

    answers: int = 0
    failed: int = 0
    truncated: int = 0
    unparsed: int = 0
    unread: int = 0
    judge_failed: int = 0
    reasons: list[str] = field(default_factory=list)
    """The first failure of each kind in its own words."""

    def refusal(self) -> str | None:
        """Why no score is to be printed."""
        said = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        if self.failed > MOST_FAILED * self.answers:
            return f"{self.failed} of {self.answers} generations failed, above {MOST_FAILED:.1%}{said}"
        if self.judge_failed > MOST_FAILED * self.answers:
            return f"the judge did not answer {self.judge_failed} requests for {self.answers} answers{said}"
        if self.unread:
            return f"{self.unread} of {self.answers} answers need a judge: --judge-base-url and --judge"
        return None


@dataclass
class Scored:
    """A benchmark's parts, the score over the reported ones, and the counts; ``total`` None with ``reason`` said."""

    parts: list[Part]
    reported: tuple[str, ...]
    counts: Counts
    total: Score | None
    reason: str | None

    def record(self) -> dict:
        record = {"reported": list(self.reported), "counts": asdict(self.counts)}
        if self.total is None:
            return {**record, "reason": self.reason}
        return {**record, **self.total.record(), "parts": {part.name: score([part]).record() for part in self.parts}}


def scored(
    benchmark: Benchmark, fields: Sequence[dict], correct: np.ndarray, counts: Counts, reported: Sequence[str]
) -> Scored:
    """Score the verdicts ``correct`` [passes, questions]."""
    parts = benchmark.metric(fields, correct)
    names = [part.name for part in parts]
    reported = tuple(reported) or tuple(names[:1])
    reason = counts.refusal()
    missing = [name for name in reported if name not in names]
    if reason is None and missing:
        reason = f"no question counts for {', '.join(missing)}"
    total = None if reason else score([part for part in parts if part.name in reported])
    return Scored(parts, reported, counts, total, reason)


def check_arithmetic(benchmark: Benchmark, parts: Sequence[Part], official: Sequence[Mapping[str, float]]) -> None:
    """Compare each pass of each part with the toolkit's own figure, where it gives one.

    Raises:
        EvaluationError: they differ by more than the toolkit's rounding.
    """
    for part in parts:
        for mine, figures in zip(part.per_pass(), official, strict=True):
            if part.name in figures and abs(mine - figures[part.name]) > 0.0051:
                raise EvaluationError(
                    f"{benchmark.name}, {part.name}: {mine:.4f} from single verdicts, {figures[part.name]:.4f} by the "
                    "toolkit; this is a fault of verl_vaopd, please report it"
                )


def averages(results: Mapping[str, Scored]) -> dict[str, Score]:
    """Math and Visual, where every benchmark of them has a score."""
    found = {}
    for name in AVERAGES:
        members = [each.name for each in BENCHMARKS.values() if each.average == name]
        if all(member in results and results[member].total for member in members):
            found[name] = average([results[member].total for member in members])
    return found


def row(name: str, value: Score, note: str = "") -> str:
    low, high = value.interval
    spread = f"{value.std:6.2f}" if value.std is not None else f"{'-':>6}"
    return f"{name:<16}{value.value:7.2f}   {low:6.2f} to {high:6.2f}  {spread}   {note}".rstrip()


def table(results: Mapping[str, Scored], variants: str, passes: int) -> Iterator[str]:
    """Lines: a benchmark each, its parts beside it, the average under each kind."""
    yield f"{'':<16}{f'avg@{passes}':>7}   {f'{LEVEL}% interval':<16}  {'std':>6}"
    whole = averages(results)
    for kind in AVERAGES:
        for benchmark in BENCHMARKS.values():
            if benchmark.average != kind or benchmark.name not in results:
                continue
            each = results[benchmark.name]
            if each.total is None:
                yield f"{benchmark.name:<16}no score: {each.reason}"
                continue
            shown = each.parts if len(each.parts) > 1 else []
            yield row(benchmark.name, each.total, ", ".join(f"{p.name} {p.per_pass().mean():.2f}" for p in shown))
        if kind in whole:
            yield row(f"{kind} Avg", whole[kind])
    yield variants


def write_lines(path: Path, lines: Iterator[dict]) -> None:
    """JSONL, aside then renamed."""
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "w") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    os.replace(aside, path)
