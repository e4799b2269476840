"""The console script ``verl-vaopd``: one subcommand per module, imported when it is called."""

import argparse
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "train": ("verl_vaopd.launch.main", "distil a student; takes hydra overrides (key=value)"),
    "answers": ("verl_vaopd.launch.answers", "have the teacher answer the training prompts (offpolicy_kd, cot_sft)"),
    "data": (
        "verl_vaopd.own_data.__main__",
        "fetch Geometry3K or ViRL39K, or convert your own rows, to verl's parquet",
    ),
    "plan": ("verl_vaopd.launch.plan", "whether a recipe fits the GPUs, how long it takes, what it writes"),
    "evaluate": ("verl_vaopd.evaluation.__main__", "sample and score a checkpoint on the eight benchmarks, avg@8"),
    "compare": ("verl_vaopd.evaluation.compare", "paired differences of two evaluations, with intervals"),
    "doctor": ("verl_vaopd.doctor", "check this machine; each failed line says how to mend it"),
    "selfcheck": ("verl_vaopd.selfcheck.__main__", "run kernels, losses and engines on tiny models against references"),
    "export": ("verl_vaopd.student.export", "write the student of a checkpoint as one Hugging Face folder"),
    "report": ("verl_vaopd.diagnostics.__main__", "the paper's figures for your runs, and one page of them"),
    "tiny": ("verl_vaopd.tiny.__main__", "make the tiny teacher, student and data of the CPU recipe"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run ``main(rest)`` of the subcommand's module and return its exit code.

    An unknown subcommand, or none, ends with a message and exit code 2.
    """
    lines = "\n".join(f"  {name:<9} {text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="verl-vaopd",
        description="Visual-advantage on-policy distillation of vision-language models.",
        epilog=f"commands:\n{lines}\n\nverl-vaopd COMMAND --help tells the arguments of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed to the command as they are")
    args = parser.parse_args(argv)
    module, _ = COMMANDS[args.command]
    return import_module(module).main(args.arguments)


if __name__ == "__main__":
    raise SystemExit(main())
