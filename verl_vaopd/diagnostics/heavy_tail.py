"""Fig. 2a of the paper: is visual advantage carried by few tokens?"""

import numpy as np

from verl_vaopd.diagnostics.drawing import panels, per_cent, styles
from verl_vaopd.diagnostics.runs import Group, MissingRuns
from verl_vaopd.diagnostics.statistics import cumulative_share, top_share

TITLE = "How few tokens carry visual advantage"
NAME = "heavy_tail"
POINTS = 600  # of a curve: every token of many rollouts would make a large file and look the same


def draw(groups: list[Group], narrow: bool = False):
    """VA of all tokens in order, and the share of all VA that the highest tokens carry, at the last validation.

    Raises:
        MissingRuns: no run logged held-out rollouts with VA.
    """
    found = {group.label: tokens_of(group) for group in groups if group.kind == "method"}
    found = {label: va for label, va in found.items() if len(va) and va.sum() > 0}
    if not found:
        raise MissingRuns(
            "a run with the teacher's two views (vaopd.degraded_view=true, method opd or vaopd) and "
            "vaopd.log_validation_rollouts above 0"
        )
    looks = styles(list(found))
    figure, (in_order, carried) = panels(2, narrow)
    carried.text(0.98, 0.62, "carried by the top 10%:", ha="right", fontsize=9)
    for line, (label, va) in enumerate(found.items(), start=1):
        colour = looks[label]["color"]
        places = np.unique(np.linspace(0, len(va) - 1, POINTS).round().astype(int))
        ranked = np.sort(va)
        in_order.plot((places + 0.5) / len(va), ranked[places], color=colour)
        tokens, mass = cumulative_share(va)
        fine = np.unique(np.concatenate([places, np.arange(min(len(mass), POINTS))]))  # the rise is at the start
        carried.plot(tokens[fine], mass[fine], color=colour)
        share = top_share(va)
        carried.plot(0.1, share, "o", color=colour, markeredgecolor="white", markersize=6)
        carried.text(0.98, 0.62 - 0.075 * line, f"{label}  {share:.1%}", ha="right", color=colour, fontsize=9)
    counts = sorted({len(va) for va in found.values()})
    amount = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    in_order.axvspan(0.9, 1.0, color="#F2F2F2", zorder=0)
    in_order.set(title="VA of every token, in order", xlabel=f"{amount} tokens of held-out rollouts, by VA")
    in_order.set(ylabel="VA, nats", xlim=(0, 1), ylim=(0, None))
    in_order.text(0.89, 0.96, "top 10% →", ha="right", va="top", fontsize=8.5, transform=in_order.transAxes)
    carried.axvline(0.1, color="#595959", linewidth=0.9, linestyle="--")
    carried.set(title="Share of all VA", xlabel="share of tokens, highest VA first")
    carried.set(ylabel="share of all VA", xlim=(0, 1), ylim=(0, 1.02))
    for axis, which in ((in_order, "x"), (carried, "x"), (carried, "y")):
        per_cent(axis, which)
    return figure


def tokens_of(group: Group) -> np.ndarray:
    """VA of every logged token of held-out rollouts at the last validation, all seeds together."""
    rows = [row["va"] for run in group.runs for row in run.rollouts(run.last_step)]
    return np.concatenate(rows) if rows else np.array([])
