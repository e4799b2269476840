"""Fig. 4a of the paper: what does each component add to Standard OPD?"""

from verl_vaopd.diagnostics.drawing import panels, signed, styles
from verl_vaopd.diagnostics.runs import Group, MissingRuns
from verl_vaopd.diagnostics.statistics import interval, paired

TITLE = "Gain over Standard OPD"
NAME = "ablations"


def draw(groups: list[Group], narrow: bool = False):
    """Final accuracy less Standard OPD's, paired by seed: bars, seeds as dots, 95% intervals from two seeds on.

    Raises:
        MissingRuns: no Standard OPD, or no variant of VA-OPD with a seed in common with it.
    """
    baseline = next((group for group in groups if group.label == "Standard OPD"), None)
    variants = [group for group in groups if group.kind == "ablation" or group.label.startswith("VA-OPD")]
    gains = {}
    for group in variants if baseline else ():
        gains[group.label] = paired(group.final("accuracy"), baseline.final("accuracy"))
    gains = {label: values for label, values in gains.items() if values}
    if not gains:
        raise MissingRuns(
            "runs of vaopd.method=opd and, with the same data.seed, of vaopd.method=vaopd as it is, with "
            "vaopd.token_grouping=false and with vaopd.rollout_weighting=false"
        )
    order = list(gains)
    looks = styles(order)
    figure, (axis,) = panels(1, narrow, width=5.6, height=1.1 + 0.45 * len(order))
    for place, label in enumerate(reversed(order)):
        points = [100 * gain for gain in gains[label]]
        mean, _, half = interval(points)
        axis.barh(place, mean, height=0.6, color=looks[label]["color"], alpha=0.75)
        axis.plot(points, [place] * len(points), "o", color="black", markersize=3.5, alpha=0.6, zorder=3)
        if half is not None:
            axis.errorbar(mean, place, xerr=half, color="black", linewidth=1.2, capsize=4, zorder=4)
        shown = signed(mean) + (f" \N{PLUS-MINUS SIGN} {half:.1f}" if half is not None else " (one seed)")
        axis.annotate(shown, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
    axis.axvline(0, color="black", linewidth=0.9)
    axis.set_yticks(range(len(order)), list(reversed(order)))
    axis.grid(axis="y", visible=False)
    axis.margins(x=0.08)
    axis.set_title("Gain over Standard OPD")
    axis.set_xlabel("final accuracy less Standard OPD's, points\n(dots: seeds; lines: 95% intervals)")
    return figure
