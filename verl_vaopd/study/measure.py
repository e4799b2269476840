"""``python -m verl_vaopd.study.measure``: students of whole-stack runs, measured as the study measures its own.

Each has ``visual_nll.json`` beside it afterwards: its loss and the untrained student's, nats, and the gain.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from verl_vaopd.study.options import at_least, check_models
from verl_vaopd.tiny.dilution.words import LENGTHS

FILE = "visual_nll.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, a line each. Returns 0; 2 where a folder holds no model."""
    about = "Measure exported students as the study does; visual_nll.json beside each."
    parser = argparse.ArgumentParser(prog="python -m verl_vaopd.study.measure", description=about, allow_abbrev=False)
    parser.add_argument("--models", type=Path, required=True, help="of `verl-vaopd tiny --task dilution`")
    parser.add_argument("--words", type=int, choices=LENGTHS, required=True)
    parser.add_argument("--figures", choices=("validation", "test"), default="validation", help="to measure on")
    parser.add_argument("--held-out", type=at_least(1), default=200, help="figures of a measurement")
    parser.add_argument("students", type=Path, nargs="+", metavar="STUDENT", help="RUN_DIR/student")
    options = parser.parse_args(argv)
    try:
        check_models(options.models)
        for student in options.students:
            check_student(student)
    except ValueError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    os.environ.setdefault("VERL_PLATFORM", "cpu")  # before verl is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    measure(options)
    return 0


def check_student(folder: Path) -> None:
    """Raises:
    ValueError: it holds no model.
    """
    if not (folder / "config.json").exists():
        raise ValueError(f"{folder} holds no config.json: name the folder student/ of a run that has ended")


def measure(options) -> None:
    from verl_vaopd.study.figures import HeldOut
    from verl_vaopd.study.run import Study
    from verl_vaopd.study.sampling import Sampler

    study = Study(options.models)
    held_out = HeldOut.of(study.talk, options.words, options.figures, options.held_out, study.seed)

    def measured(model: Path) -> dict[str, float]:
        sampler = Sampler(model, study.processor.tokenizer)
        return {
            "nll": study.nll(held_out, sampler),
            "accuracy": study.accuracy(held_out, options.words, sampler),
        }

    untrained = measured(options.models / "student")
    print(f"untrained: {untrained['nll']:.4f} nats a visual token, accuracy {untrained['accuracy']:.1%}", flush=True)
    given = {"words": options.words, "figures": options.figures, "held_out": options.held_out}
    for student in options.students:
        found = measured(student)
        gain = untrained["nll"] - found["nll"]
        record = {**given, **found, "gain": gain, "untrained": untrained}
        (student.absolute().parent / FILE).write_text(json.dumps(record, indent=1))
        print(f"{student}: {found['nll']:.4f}, gain {gain:+.4f}, accuracy {found['accuracy']:.1%}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
