"""``verl-vaopd report RUN [RUN ...] --output DIR``: figures, table and one page from the folders of runs."""

import argparse
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context

from verl_vaopd.diagnostics import (
    ablations,
    dilution,
    efficiency,
    heat_map,
    heavy_tail,
    masking,
    own_rates,
    study_runs,
    va_trajectory,
)
from verl_vaopd.diagnostics.drawing import STYLE
from verl_vaopd.diagnostics.lengths import without_stopped
from verl_vaopd.diagnostics.page import page
from verl_vaopd.diagnostics.runs import MissingRuns, differences, group_runs, read_run
from verl_vaopd.diagnostics.table import head, markdown, rows

FIGURES = (va_trajectory, heavy_tail, masking, ablations, efficiency, heat_map)
OVER_SEEDS = "Lines: mean over seeds; bands: lowest to highest seed."
CAPTIONS = {
    "va_trajectory": "Mean visual advantage (Eq. 2) of the student's answers to held-out problems. " + OVER_SEEDS,
    "heavy_tail": "Tokens of the logged held-out answers at the last validation, all seeds together.",
    "dilution_gain": "Fall of the held-out loss of a visual token over a run. Small dots: seeds; bars: 95% intervals.",
    "dilution_shares": "Weighted KL: mean over seeds. Gradients: of seed 1, at the updates where they were told apart.",
    "dilution_rates": "On figures that count for nothing else. Ringed: the rate that the arm was given.",
    "masking": "Section 2.2: the KL of a tenth of each answer's tokens is left out. " + OVER_SEEDS,
    "ablations": "Held-out accuracy at the last validation, paired by seed. Intervals: Student's t.",
    "efficiency": "Time of sampling, scoring and updates, less start-up, validation and checkpoints. " + OVER_SEEDS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0 done, 2 a folder that is no run or runs that do not go together."""
    parser = argparse.ArgumentParser(
        prog="verl-vaopd report",
        description="Draws the paper's figures for your runs, from their logs, and one self-contained HTML page.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run (vaopd.output_dir)")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where report.html and figures go")
    arguments = parser.parse_args(argv)
    try:
        check_output(arguments.output)
        if study_runs.is_study(arguments.runs):
            return report_study(arguments.runs, arguments.output)
        runs = [read_run(path) for path in arguments.runs]
        groups, lengths = without_stopped(group_runs(runs))
        runs = [run for group in groups for run in group.runs]
    except ValueError as error:
        print(f"verl-vaopd report: {error}", file=sys.stderr)
        return 2
    drawn, notes = draw_all(FIGURES, groups, arguments.output)
    shown = heat_map.problems(groups) if any(figure["name"] == heat_map.NAME for figure in drawn) else []
    if different := differences(runs):
        notes.append(f"The runs differ in more than their method: {', '.join(different)}.")
    if apart := [group.label for group in groups if not group.has_curve]:
        notes.append(
            f"Not drawn against steps, since its seeds were never validated at the same one: {', '.join(apart)}."
        )
    notes.append(f"Made by: verl-vaopd report {shlex.join(str(path) for path in arguments.runs)}")
    notes[:0] = lengths
    table = rows(groups)
    charts = [figure for figure in drawn if figure["name"] != heat_map.NAME]  # the page holds its tokens instead
    seeds = sorted({run.seed for run in runs})
    intro = f"{len(runs)} runs of {len(groups)} settings; seeds {', '.join(map(str, seeds))}."
    text = markdown(table, head(groups)) + "".join(f"\n{note}\n" for note in lengths)
    (arguments.output / "table.md").write_text(text)
    (arguments.output / "report.html").write_text(page(intro, table, charts, shown, notes, head(groups)))
    print(f"\n{text}\npage: {arguments.output / 'report.html'}")
    return 0


def check_output(output: Path) -> None:
    """Raises:
    ValueError: ``output`` is, or is below, a file.
    """
    for path in (output, *output.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"--output {output}: {path} is a file, name a folder")


def report_study(paths: Sequence[Path], output: Path) -> int:
    """Figures, table and page of runs of ``recipes/dilution_study.sh``. Returns 0.

    Raises:
        ValueError: a run that has not ended or is damaged, or runs that do not go together.
    """
    runs = [study_runs.read_study(path) for path in paths]
    dilution.check_together(runs)
    runs, lost = study_runs.without_lost(runs)
    intro = f"{len(runs)} runs on the diluted tiny task; a gain is the fall of the loss of a visual token."
    figures = (dilution.Gain, dilution.Shares, *([own_rates] if any(run.tried for run in runs) else []))
    runs = dilution.with_own_rates(runs)
    drawn, notes = draw_all(figures, runs, output)
    table = dilution.rows(runs)
    text = markdown(table, dilution.HEAD) + "".join(f"\n{note}\n" for note in lost)
    (output / "table.md").write_text(text)
    (output / "report.html").write_text(page(intro, table, drawn, [], lost + notes, dilution.HEAD))
    print(f"\n{text}\npage: {output / 'report.html'}")
    return 0


def draw_all(modules, groups: list, output: Path) -> tuple[list[dict], list[str]]:
    """What :func:`write_figure` returns of each figure whose runs are there; of the others, what they need."""
    output.mkdir(parents=True, exist_ok=True)
    drawn, notes = [], []
    for module in modules:
        try:
            drawn.append(write_figure(module, groups, output))
            print(f"{module.NAME}: {drawn[-1]['path']}", flush=True)
        except MissingRuns as missing:
            notes.append(f"Left out: {module.TITLE}. It needs {missing}.")
            print(f"{module.NAME}: left out; it needs {missing}", flush=True)
    return drawn, notes


def write_figure(module, groups: list, output: Path) -> dict:
    """Draw one figure: NAME.png and NAME.svg for a text, and what the page needs, a narrow SVG for phones too."""
    wide = output / f"{module.NAME}.svg"
    with rc_context(STYLE):
        figure = module.draw(groups)
        figure.savefig(wide, metadata={"Date": None})
        figure.savefig(wide.with_suffix(".png"), dpi=200)
        module.draw(groups, narrow=True).savefig(narrow := io.BytesIO(), format="svg", metadata={"Date": None})
    return {
        "name": module.NAME,
        "title": module.TITLE,
        "caption": CAPTIONS.get(module.NAME, ""),
        "path": wide.with_suffix(".png"),
        "wide": wide.read_bytes(),
        "narrow": narrow.getvalue(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
