"""``--calibrate``: which variant of WeMath and MathVerse comes nearest to the paper's figure of the base model."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from verl_vaopd.evaluation.benchmarks import BENCHMARKS
from verl_vaopd.evaluation.manifest import write_json
from verl_vaopd.evaluation.run import Settings, evaluate

Candidates = dict[str, float]


def nearest(candidates: Candidates, figure: float) -> str:
    """The candidate whose score is closest; the first of equals."""
    return min(candidates, key=lambda name: abs(candidates[name] - figure))


def described(benchmark: str, candidates: Candidates, choice: str) -> Iterator[str]:
    """A line a candidate, the choice marked."""
    yield f"{benchmark}: {BENCHMARKS[benchmark].base} in the paper"
    for name, value in candidates.items():
        yield f"  {'*' if name == choice else ' '} {name:<40}{value:7.2f}"


def calibrate(settings: Settings, file: Path) -> list[str]:
    """Sample WeMath once and MathVerse under each wording, store the nearest variants in ``file``.

    Returns:
        The lines to print. A benchmark without a score keeps the default.
    Raises:
        EvaluationError: as :func:`evaluate`.
    """
    lines, chosen = [], replace(settings.variants, calibrated=settings.checkpoint)
    every: dict[str, Candidates] = {"WeMath": {}, "MathVerse": {}}
    for prompt in (None, "cot"):
        wording = replace(
            settings,
            variants=replace(settings.variants, mathverse_prompt=prompt),
            output=settings.output / ("plain" if prompt is None else prompt),
            benchmarks=tuple(b for b in settings.benchmarks if prompt is None or b.name == "MathVerse"),
        )
        for name, result in evaluate(wording).items():
            if result.total is None:
                lines.append(f"{name}: no score: {result.reason}")
                continue
            values = {part.name: float(part.per_pass().mean()) for part in result.parts}
            if name == "WeMath":
                every[name] |= {**values, "strict + loose": sum(values.values()) / len(values)}
            else:
                every[name] |= {f"{part}, {prompt or 'plain'}": value for part, value in values.items()}
    for name, candidates in every.items():
        if candidates:
            choice = nearest(candidates, BENCHMARKS[name].base)
            lines += described(name, candidates, choice)
            if name == "WeMath":
                chosen = replace(chosen, wemath=tuple(choice.split(" + ")))
            else:
                part, _, prompt = choice.rpartition(", ")
                chosen = replace(chosen, mathverse=(part,), mathverse_prompt=None if prompt == "plain" else prompt)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"variants": chosen.record(), "candidates": every, "passes": settings.passes})
    return [*lines, f"stored in {file}; every later score is by it"]
