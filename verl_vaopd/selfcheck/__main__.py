"""``verl-vaopd selfcheck``: do the kernels, losses and engines compute here what they should?"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from verl_vaopd.selfcheck.check import FAILED, Check, guarded


def checks(device: str, gpu: bool, full: bool, output: Path) -> Iterator[Check]:
    """All of them, in order; ``gpu``: a machine without one is a failure."""
    from verl_vaopd.selfcheck import kernels, losses, processes, recipe

    if gpu and device != "cuda":
        yield Check("GPU", verdict=FAILED, note="torch sees none: verl-vaopd doctor --gpu says why")
    for name, run in (
        ("attention", partial(kernels.checks, device)),
        ("fused losses", partial(losses.checks, device)),
        ("ranks", partial(processes.checks, device)),
    ):
        yield from guarded(name, run)
    if full:
        yield from guarded(recipe.NAME, partial(recipe.checks, device, output))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: nothing failed; 1: something did."""
    parser = argparse.ArgumentParser(
        prog="verl-vaopd selfcheck",
        description="Run kernels, losses, engines and checkpoints on tiny models, and compare them with references.",
        epilog="Exit code 0: nothing failed; 1: a check failed. What cannot be checked on this machine is listed.",
    )
    parser.add_argument("--gpu", action="store_true", help="fail where torch sees no GPU; one is used wherever it is")
    parser.add_argument("--full", action="store_true", help="also two steps of the 8B recipe (2B to 2B on one GPU)")
    parser.add_argument("--output", type=Path, default=Path("outputs/selfcheck"), help="default: %(default)s")
    args = parser.parse_args(argv)
    import torch

    from verl_vaopd.selfcheck.report import summary, table, write

    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.output.mkdir(parents=True, exist_ok=True)
    found = list(checks(device, args.gpu, args.full, args.output))
    write(found, device, args.output)
    print(table(found))
    print(f"\n{summary(found)}; for an issue: {args.output / 'selfcheck.md'}")
    return 1 if any(check.verdict == FAILED for check in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
