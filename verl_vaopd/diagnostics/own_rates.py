"""Rates of each arm's own: what each rate that was tried gained, on figures that count for nothing else."""

from verl_vaopd.diagnostics.dilution import TRAINED, StudyRun, titles_of
from verl_vaopd.diagnostics.drawing import panels
from verl_vaopd.diagnostics.runs import MissingRuns

TITLE, NAME = "The rate at which each arm gains most", "dilution_rates"


def draw(runs: list[StudyRun], narrow: bool = False):
    """Gain against the rate by arm, a panel for what is trained and the words; the rate that was taken is ringed."""
    runs = [run for run in runs if run.own]
    if not runs:
        raise MissingRuns("runs of a cell whose rate reads own, as --cells frozen-own-160")
    cells = sorted({(run.settings["cell"]["regime"], run.words) for run in runs})
    figure, axes = panels(len(cells), narrow, width=5.2, height=3.4)
    titles, colours = titles_of(runs)
    for (regime, words), axis in zip(cells, axes, strict=True):
        for title in titles:
            found = [run for run in runs if (run.setting[0], run.words, run.title) == (regime, words, title)]
            if not found:
                continue
            tried, taken = found[0].tried, found[0].settings["cell"]["rate"]
            axis.plot([*tried], [*tried.values()], marker=".", color=colours[title], label=title)
            axis.plot(taken, tried[taken], "o", markersize=10, fillstyle="none", color=colours[title])
        axis.set(
            title=f"{TRAINED[regime]}, {words} words", xlabel="rate", ylabel="gain, nats a visual token", xscale="log"
        )
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, fontsize=7, loc="outside lower center", ncols=1 if narrow else 4)
    return figure
