"""The runs in one table: accuracy, its difference to Standard OPD, visual advantage, time."""

from verl_vaopd.diagnostics.runs import Group
from verl_vaopd.diagnostics.statistics import interval, paired

HEAD = (
    "run",
    "seeds",
    "final accuracy, %",
    "less Standard OPD's, points (95%)",
    "mean VA, nats",
    "VA in the top 10%",
    "training time",
)
OLDER = "tokens of older weights"


def head(groups: list[Group]) -> tuple[str, ...]:
    """``HEAD``, and where a run had partial rollouts their share of tokens that were not of the current weights."""
    return (*HEAD, OLDER) if any(group.final("older") for group in groups) else HEAD


def rows(groups: list[Group]) -> list[tuple[str, ...]]:
    """One row a group, under ``head``: mean, standard error over seeds at the last validation; paired differences."""
    width = len(head(groups))
    baseline = next((group.final("accuracy") for group in groups if group.label == "Standard OPD"), {})
    table = []
    for group in groups:
        accuracy = group.final("accuracy")
        gains = paired(accuracy, baseline) if group.label != "Standard OPD" else []
        mean, _, half = interval([100 * gain for gain in gains]) if gains else (None, None, None)
        gain = (
            ""
            if mean is None
            else f"{mean:+.1f}" + ("" if half is None else f" ({mean - half:+.1f} to {mean + half:+.1f})")
        )
        hours = interval(list(group.final("hours").values()))[0]
        table.append(
            (
                group.label,
                str(len(group.runs)),
                _mean(accuracy, "{:.1f}", 100),
                gain,
                _mean(group.final("va"), "{:.3f}"),
                _mean(group.final("top10_share"), "{:.1f}%", 100, error=False),
                "" if not hours else f"{hours:.1f} h" if hours >= 2 else f"{60 * hours:.1f} min",
                _mean(group.final("older"), "{:.0f}%", 100, error=False),
            )[:width]
        )
    return table


def _mean(values: dict[int, float], form: str, scale: float = 1.0, error: bool = True) -> str:
    if not values:
        return ""
    mean, deviation, _ = interval([scale * value for value in values.values()])
    spread = f" \N{PLUS-MINUS SIGN} {form.format(deviation)}" if error and deviation is not None else ""
    return form.format(mean) + spread


def markdown(table: list[tuple[str, ...]], head: tuple[str, ...] = HEAD) -> str:
    """The table for a README."""
    lines = [head, tuple("---" for _ in head), *table]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
