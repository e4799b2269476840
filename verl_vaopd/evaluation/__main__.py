"""``verl-vaopd evaluate``: the eight benchmarks, avg@8."""

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

from verl_vaopd.serving import EvaluationError


def whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="verl-vaopd evaluate",
        description="Sample every question of the benchmarks several times, score each pass by the benchmark's "
        "official metric, print the mean over passes. A run that was stopped goes on from where it was.",
        epilog="Arguments after -- go to the vLLM server. Data files are looked for, and fetched into, the folder "
        "LMUData (default ~/LMUData). Keys: VAOPD_JUDGE_API_KEY, else OPENAI_API_KEY; VAOPD_MODEL_API_KEY for "
        "--base-url. Exit code 0: every benchmark has a score; 1: one has none, or the run stopped; 2: bad usage.",
    )
    made.add_argument("checkpoint", help="folder or hub name of a Hugging Face checkpoint")
    made.add_argument("--benchmarks", default="all", help="all, or a list as in AI2D,MMStar; default: all")
    made.add_argument("--output", type=Path, help="default: outputs/evaluation/NAME, by the checkpoint's")
    made.add_argument("--passes", type=whole, default=8, help="samples a question, seeds 0, 1, ...; default: 8")
    made.add_argument("--limit", type=whole, help="only the first N questions of each benchmark")
    made.add_argument("--temperature", type=float, default=1.0, help="default: 1.0")
    made.add_argument("--top-p", type=float, default=1.0, help="default: 1.0")
    made.add_argument("--max-tokens", type=whole, default=4096, help="of an answer; default: 4096")
    made.add_argument("--base-url", help="an OpenAI-compatible server of the checkpoint, as in http://host:8000/v1")
    made.add_argument("--served-model", help="its name there; default: CHECKPOINT")
    made.add_argument("--judge-base-url", help="an OpenAI-compatible server of the judge")
    made.add_argument("--judge", metavar="MODEL", help="the judge's name there; the paper's: gpt-4o-2024-08-06")
    made.add_argument(
        "--answer",
        choices=("first_committed", "whole"),
        default="first_committed",
        help="what of an answer goes to the scorers; default: the first that it commits to, as in the paper's appendix",
    )
    made.add_argument(
        "--scorers",
        choices=("released", "toolkit"),
        default="released",
        help="released: WeMath, MathVerse, AI2D and OCRBench by rule, the judge for the rest; toolkit: the judge reads "
        "whatever rules cannot; default: released",
    )
    made.add_argument("--workers", type=whole, default=64, help="requests at once; default: 64")
    made.add_argument("--any-data-file", action="store_true", help="accept data files whose MD5 the toolkit knows not")
    made.add_argument(
        "--calibrate", action="store_true", help="CHECKPOINT is the paper's base model: find the variants"
    )
    made.add_argument(
        "--calibration", type=Path, help="where they are kept; default: outputs/evaluation/calibration.json"
    )
    return made


def chosen(names: str) -> tuple:
    """The benchmarks asked for, in the table's order.

    Raises:
        EvaluationError: an unknown name.
    """
    from verl_vaopd.evaluation.benchmarks import BENCHMARKS

    asked = list(BENCHMARKS) if names == "all" else [name.strip() for name in names.split(",")]
    unknown = [name for name in asked if name not in BENCHMARKS]
    if unknown:
        raise EvaluationError(f"no benchmark {', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
    return tuple(each for name, each in BENCHMARKS.items() if name in asked)


def default_output(checkpoint: str) -> Path:
    """``outputs/evaluation/`` and the last two parts of the name: those of a run and its student, or of a hub name."""
    path = Path(checkpoint)
    path = path.resolve() if path.exists() else path
    return Path("outputs/evaluation") / "-".join(part for part in path.parts[-2:] if part != path.anchor)


def run(args: argparse.Namespace, server_arguments: Sequence[str]) -> int:
    from dataclasses import replace

    from verl_vaopd.evaluation.calibration import calibrate
    from verl_vaopd.evaluation.results import TABLE
    from verl_vaopd.evaluation.run import Settings, evaluate
    from verl_vaopd.evaluation.variants import DEFAULT_FILE, Variants, read_variants
    from verl_vaopd.serving.generation import Decoding

    file = args.calibration or DEFAULT_FILE
    output = args.output or default_output(args.checkpoint)
    settings = Settings(
        checkpoint=args.checkpoint,
        benchmarks=chosen("WeMath,MathVerse" if args.calibrate else args.benchmarks),
        output=output,
        passes=args.passes,
        limit=args.limit,
        decoding=Decoding(args.temperature, args.top_p, args.max_tokens),
        base_url=args.base_url,
        served_model=args.served_model,
        judge_base_url=args.judge_base_url,
        judge=args.judge,
        workers=args.workers,
        any_data_file=args.any_data_file,
        variants=replace(
            Variants() if args.calibrate else read_variants(file), answer=args.answer, scorers=args.scorers
        ),
        server_arguments=tuple(server_arguments),
    )
    if args.calibrate:
        print("\n".join(calibrate(settings, file)))
        return 0
    results = evaluate(settings)
    print((output / TABLE).read_text(), end="")
    return int(any(each.total is None for each in results.values()))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: every benchmark has a score; 1: one has none, or the run stopped; 2: bad usage; 130: Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    args = parser().parse_args(argv[:cut])
    try:
        return run(args, argv[cut + 1 :])
    except EvaluationError as error:
        print(f"verl-vaopd evaluate: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = args.output or "outputs/evaluation"
        print(
            f"verl-vaopd evaluate: the disk of {where} is full: finished answers are kept; free some space and run the "
            "same command again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("verl-vaopd evaluate: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
