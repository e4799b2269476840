"""Fig. 5 of the paper: accuracy against training time."""

from verl_vaopd.diagnostics.drawing import label_ends, line_with_band, panels, per_cent, styles
from verl_vaopd.diagnostics.runs import Group, MissingRuns
from verl_vaopd.diagnostics.statistics import time_to_reach

TITLE = "Accuracy against training time"
NAME = "efficiency"


def draw(groups: list[Group], narrow: bool = False):
    """Held-out accuracy against training time, and when each first reaches Standard OPD's (or the first's) final one.

    Time is that of sampling, scoring and updates: start-up, validation and checkpoints are not in it.

    Raises:
        MissingRuns: fewer than two methods were trained and validated on the way.
    """
    shown = [group for group in groups if group.kind == "method" and len(group.curve("hours")[0]) > 1]
    if len(shown) < 2:
        raise MissingRuns(
            "runs of two methods, for example vaopd.method=opd and vaopd, validated with trainer.test_freq"
        )
    baseline = next((group for group in shown if group.label == "Standard OPD"), shown[0])
    curves = {group.label: (group.curve("hours")[1].mean(axis=0), group.curve("accuracy")[1]) for group in shown}
    longest = max(hours[-1] for hours, _ in curves.values())
    unit, scale = ("h", 1.0) if longest >= 2 else ("min", 60.0)
    looks = styles(list(curves))
    figure, (axis,) = panels(1, narrow, width=5.6)
    target = curves[baseline.label][1].mean(axis=0)[-1]
    reached = {label: time_to_reach(h, a.mean(axis=0), target) for label, (h, a) in curves.items()}
    spent = reached[baseline.label]  # not its whole time: it may have been there before its end, as the others may
    ends = []
    for label, (hours, accuracy) in curves.items():
        at = "not reached" if reached[label] is None else f"{scale * reached[label]:.1f} {unit}"
        line_with_band(axis, scale * hours, accuracy, looks[label])
        ends.append((scale * hours[-1], accuracy.mean(axis=0)[-1], f"{label}: {at}", looks[label]["color"]))
    axis.set(xlabel=f"training time, {unit}", ylabel="held-out accuracy")
    axis.margins(x=0.04, y=0.12)
    axis.set_ylim(axis.get_ylim())
    label_ends(axis, ends)
    per_cent(axis)

    axis.axhline(target, color="#595959", linewidth=0.8, linestyle=":")
    axis.set_title(f"Time to {baseline.label}'s final accuracy, {target:.1%}")
    others = [at for label, at in reached.items() if at and label != baseline.label]
    if others and (first := min(others)) < spent:
        arrow = {"arrowstyle": "->", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (scale * first, target), (scale * spent, target), arrowprops=arrow)
        faster = f"{spent / first:.1f}\N{MULTIPLICATION SIGN} faster"
        # At the left end, above the line: no run is that good that early.
        place = {"xycoords": axis.get_yaxis_transform(), "textcoords": "offset points", "ha": "left", "va": "bottom"}
        axis.annotate(faster, (0.02, target), (0, 3), **place)
    return figure
