"""``verl-vaopd compare A B``: paired differences of two evaluations."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.serving import EvaluationError

SAME = ("toolkit", "decoding", "passes", "variants", "judge")
VERDICT = {"benchmark", "seed", "correct", "fields"}
AGAIN = "call verl-vaopd evaluate again with the same --output, which writes it anew"


def load(folder: Path) -> tuple[dict, dict[str, list]]:
    """The manifest, and the parts of each benchmark that has a score.

    Raises:
        EvaluationError: no finished evaluation is there, or a file of it is damaged; names the file.
    """
    import numpy as np

    from verl_vaopd.evaluation.benchmarks import BENCHMARKS
    from verl_vaopd.evaluation.results import QUESTIONS, RESULTS

    results, lines = _results(folder / RESULTS), _lines(folder / QUESTIONS)
    manifest, passes = results["manifest"], results["manifest"]["passes"]
    parts = {}
    for name, record in results["benchmarks"].items():
        if "score" in record:
            mine = sorted(lines.get(name, []), key=lambda line: line["seed"])
            count, answers = len(mine) // passes, record["counts"]["answers"]
            if len(mine) != answers or any(line["seed"] != place // count for place, line in enumerate(mine)):
                problem = f"holds {len(mine)} verdicts on {name}, not the {answers} of {passes} passes"
                raise EvaluationError(f"{folder / QUESTIONS} {problem} that {RESULTS} counts: {AGAIN}")
            correct = np.array([line["correct"] for line in mine]).reshape(-1, count)
            made = BENCHMARKS[name].metric([line["fields"] for line in mine[:count]], correct)
            parts[name] = [part for part in made if part.name in record["reported"]]
    return manifest, parts


def _file(path: Path) -> Path:
    if not path.is_file():
        raise EvaluationError(f"{path.parent} has no {path.name}: give the --output of a finished verl-vaopd evaluate")
    return path


def _results(path: Path) -> dict:
    try:
        results = json.loads(_file(path).read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is no JSON ({error}): {AGAIN}") from error
    results = results if isinstance(results, dict) else {}
    manifest, benchmarks = results.get("manifest"), results.get("benchmarks")
    whole = isinstance(manifest, dict) and isinstance(benchmarks, dict) and {*SAME, "questions"} <= manifest.keys()
    for record in benchmarks.values() if whole else ():
        scored = isinstance(record, dict) and "score" in record
        whole &= isinstance(record, dict) and (not scored or {"reported", "counts"} <= record.keys())
    if not whole:
        raise EvaluationError(f"{path} is not what verl-vaopd evaluate writes: {AGAIN}")
    return results


def _lines(path: Path) -> dict[str, list[dict]]:
    """Benchmark -> verdicts."""
    lines: dict[str, list[dict]] = {}
    try:
        records = read_json_lines(_file(path))
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict) or not VERDICT <= record.keys():
            raise EvaluationError(f"{path}, line {number}, holds no verdict ({', '.join(sorted(VERDICT))}): {AGAIN}")
        lines.setdefault(record["benchmark"], []).append(record)
    return lines


def refuse_unlike(first: dict, second: dict, names: Sequence[str]) -> None:
    """Raises EvaluationError: the two were not taken in the same way."""
    unlike = [field for field in SAME if first[field] != second[field]]
    unlike += [f"questions of {name}" for name in names if first["questions"][name] != second["questions"][name]]
    if unlike:
        said = "; ".join(f"{field}: {first.get(field)} and {second.get(field)}" for field in unlike if field in first)
        raise EvaluationError(f"the two differ in {', '.join(unlike)} {f'({said}) ' if said else ''}and have no pairs")


def differences(first: dict[str, list], second: dict[str, list]) -> Iterator[tuple[str, float, tuple[float, float]]]:
    """(name, second minus first, interval) of each benchmark both have, and of the averages both have."""
    from verl_vaopd.evaluation.benchmarks import AVERAGES, BENCHMARKS
    from verl_vaopd.evaluation.statistics import average, interval, score

    both = [name for name in BENCHMARKS if name in first and name in second]
    a, b = ({name: score(parts[name]) for name in both} for parts in (first, second))
    for kind in AVERAGES:
        members = [each.name for each in BENCHMARKS.values() if each.average == kind]
        for name in members:
            if name in both:
                yield name, b[name].value - a[name].value, interval(b[name].draws - a[name].draws)
        if all(name in both for name in members):
            means = [average([scores[name] for name in members]) for scores in (a, b)]
            yield f"{kind} Avg", means[1].value - means[0].value, interval(means[1].draws - means[0].draws)


def compare(first: Path, second: Path) -> Iterator[str]:
    """The table's lines."""
    from verl_vaopd.evaluation.statistics import LEVEL

    manifests, parts = zip(load(first), load(second), strict=True)
    both = [name for name in parts[0] if name in parts[1]]
    if not both:
        raise EvaluationError(f"{first} and {second} have no benchmark with a score in common")
    refuse_unlike(*manifests, both)
    yield f"{second} minus {first}, avg@{manifests[0]['passes']}"
    yield f"{'':<16}{'':>7}   {LEVEL}% interval"
    for name, difference, (low, high) in differences(*parts):
        mark = "" if low <= 0 <= high else "  *"
        yield f"{name:<16}{difference:+7.2f}   {low:+6.2f} to {high:+6.2f}{mark}"
    yield "* the interval leaves out zero"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: compared; 1: the two cannot be compared; 2: bad usage."""
    parser = argparse.ArgumentParser(
        prog="verl-vaopd compare",
        description="Differences B minus A per benchmark and average, with intervals from a bootstrap over the "
        "questions (groups where they form groups) that both share.",
    )
    parser.add_argument("a", type=Path, metavar="A", help="--output of verl-vaopd evaluate")
    parser.add_argument("b", type=Path, metavar="B", help="another")
    args = parser.parse_args(argv)
    try:
        print("\n".join(compare(args.a, args.b)))
    except EvaluationError as error:
        print(f"verl-vaopd compare: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
