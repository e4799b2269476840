"""Fig. 2b of the paper: what does leaving out the KL of some tokens cost?"""

from verl_vaopd.diagnostics.drawing import label_ends, line_with_band, panels, per_cent, signed, styles
from verl_vaopd.diagnostics.runs import Group, MissingRuns

TITLE = "Accuracy when the KL of some tokens is masked"
NAME = "masking"


def draw(groups: list[Group], narrow: bool = False):
    """Held-out accuracy against step, of Standard OPD and of its masked variants; labels tell the final differences.

    Raises:
        MissingRuns: no masked run, or none of Standard OPD; or their seeds were never validated at the same step.
    """
    baseline = next((group for group in groups if group.label == "Standard OPD"), None)
    masked = [group for group in groups if group.kind == "masking"]
    if not masked or baseline is None:
        raise MissingRuns(
            "runs of vaopd.method=opd, one as it is and others with vaopd.mask_tokens=random, lowest_va and highest_va"
        )
    masked = [group for group in masked if group.has_curve]
    if not masked or not baseline.has_curve:
        raise MissingRuns("seeds that were validated at the same steps (trainer.test_freq), masked and not masked")
    looks = styles([group.label for group in (baseline, *masked)])
    figure, (axis,) = panels(1, narrow, width=5.6)
    reference = baseline.curve("accuracy")[1].mean(axis=0)[-1]
    ends = []
    for group in (baseline, *masked):
        steps, accuracy = group.curve("accuracy")
        line_with_band(axis, steps, accuracy, looks[group.label])
        final = accuracy.mean(axis=0)[-1]
        difference = "" if group is baseline else f"  {signed(100 * (final - reference))} points"
        ends.append((steps[-1], final, group.label + difference, looks[group.label]["color"]))
    axis.set(title="Standard OPD, with and without masked tokens", xlabel="training step", ylabel="held-out accuracy")
    axis.margins(x=0.04, y=0.1)
    axis.set_ylim(axis.get_ylim())
    per_cent(axis)
    label_ends(axis, ends)
    return figure
