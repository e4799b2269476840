"""Where the paper does not say how a figure was taken: the variant used, as calibrated on the base model."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from verl_vaopd.grading.committed import committed_answer
from verl_vaopd.serving import EvaluationError

DEFAULT_FILE = Path("outputs/evaluation/calibration.json")


@dataclass(frozen=True)
class Variants:
    """``wemath`` and ``mathverse`` name the parts whose mean is reported; ``mathverse_prompt`` null or "cot".

    ``answer``: what of an answer goes to the scorers, "first_committed" as the paper's appendix has it, or "whole".
    ``scorers``: "released", WeMath, MathVerse, AI2D and OCRBench by rule and the others with the judge, as in the
    authors' release; or "toolkit": the judge reads whatever rules cannot.
    """

    wemath: tuple[str, ...] = ("strict", "loose")
    mathverse: tuple[str, ...] = ("all versions",)
    mathverse_prompt: str | None = None
    answer: str = "first_committed"
    scorers: str = "released"
    calibrated: str | None = None
    """The base checkpoint the choice was made on; None: the defaults."""

    def reported(self, benchmark) -> tuple[str, ...]:
        """Names of the parts whose mean is that benchmark's score; empty: its first part."""
        return {"WeMath": self.wemath, "MathVerse": self.mathverse}.get(benchmark.name, benchmark.reported)

    def record(self) -> dict:
        return asdict(self)

    def describe(self) -> str:
        """One line under every table."""
        prompt = "chain-of-thought wording" if self.mathverse_prompt else "plain wording"
        origin = f"calibrated on {self.calibrated}" if self.calibrated else "not calibrated"
        scored = f"answers: {self.answer.replace('_', ' ')}; scorers: {self.scorers}"
        return (
            f"WeMath: {' + '.join(self.wemath)}; MathVerse: {' + '.join(self.mathverse)}, {prompt}; {origin}; {scored}"
        )

    def by_rule(self, benchmark) -> bool:
        """Whether the benchmark is scored without a judge."""
        return not benchmark.judged or (self.scorers == "released" and benchmark.by_rule)

    def graded(self, prediction: str) -> str:
        """What of an answer the scorers are given."""
        return committed_answer(prediction) if self.answer == "first_committed" else prediction


def read_variants(path: Path) -> Variants:
    """What ``--calibrate`` stored there, else the defaults.

    Raises:
        EvaluationError: the file is not one of --calibrate's.
    """
    if not path.exists():
        return Variants()
    try:
        stored = json.loads(path.read_text())["variants"]
        return Variants(**{key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()})
    except (KeyError, TypeError, json.JSONDecodeError):
        raise EvaluationError(f"{path} is no calibration: remove it and run --calibrate again") from None
