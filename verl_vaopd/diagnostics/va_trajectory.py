"""Fig. 1 right and Fig. 4b of the paper: does visual advantage rise with accuracy in training?"""

from verl_vaopd.diagnostics.drawing import label_ends, line_with_band, panels, per_cent, styles
from verl_vaopd.diagnostics.runs import Group, MissingRuns

TITLE = "Visual advantage in training"
NAME = "va_trajectory"


def draw(groups: list[Group], narrow: bool = False):
    """Held-out VA against step, and the path of (mean VA, accuracy) from start (circle) to end (square).

    Raises:
        MissingRuns: no run was validated twice with VA.
    """
    shown = [group for group in groups if group.kind == "method" and len(group.curve("va")[0]) > 1]
    if not shown:
        raise MissingRuns(
            "a run with the teacher's two views (vaopd.degraded_view=true, method opd or vaopd) that is validated more "
            "than once (trainer.val_before_train=true, trainer.test_freq)"
        )
    looks = styles([group.label for group in shown])
    figure, (against_step, path) = panels(2, narrow)
    ends, path_ends = [], []
    for group in shown:
        style = looks[group.label]
        steps, va = group.curve("va")
        line_with_band(against_step, steps, va, style)
        ends.append((steps[-1], va.mean(axis=0)[-1], group.label, style["color"]))
        _, accuracy = group.curve("accuracy")
        for seed in range(len(va)) if len(va) > 1 else ():
            path.plot(va[seed], accuracy[seed], color=style["color"], alpha=0.25, linewidth=0.9)
        x, y = va.mean(axis=0), accuracy.mean(axis=0)
        path.plot(x, y, color=style["color"])
        path.plot(x[0], y[0], "o", color=style["color"], markersize=7, markeredgecolor="white")
        path.plot(x[-1], y[-1], "s", color=style["color"], markersize=7, markeredgecolor="white")
        path_ends.append((x[-1], y[-1], group.label, style["color"]))
    against_step.set(title="Held-out rollouts against step", xlabel="training step", ylabel="mean VA over tokens, nats")
    path.set(title="Path from start (circle) to end (square)", xlabel="mean VA over tokens, nats")
    path.set_ylabel("held-out accuracy")
    per_cent(path)
    for axis, labels in ((against_step, ends), (path, path_ends)):
        axis.margins(x=0.06, y=0.1)
        axis.set_ylim(axis.get_ylim())
        label_ends(axis, labels)
    return figure
