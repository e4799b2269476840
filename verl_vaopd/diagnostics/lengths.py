"""Runs that ended before the others: final accuracies are compared, and averaged, of runs of equal length."""

from dataclasses import replace

from verl_vaopd.diagnostics.runs import Group


def without_stopped(groups: list[Group]) -> tuple[list[Group], list[str]]:
    """Leave out each run that ended before another seed of its setting did.

    Returns:
        (groups, notes): each group with the seeds that went furthest; sentences that name what was left out, and
        settings that ended at different steps. What is only validated (the base) has no length.
    """
    kept, notes, ends = [], [], {}
    for group in groups:
        end = max(run.end for run in group.runs)
        stopped = [run for run in group.runs if run.end < end]
        kept.append(replace(group, runs=[run for run in group.runs if run.end == end]))
        for run in stopped:
            seeds = ", ".join(str(other.seed) for other in kept[-1].runs)
            notes.append(
                f"Left out: {run.path} ({group.label}, seed {run.seed}) ended at step {run.end}, seed {seeds} at {end}."
                " The same command of training goes on."
            )
        if not group.runs[0].config["trainer"]["val_only"]:
            ends[group.label] = end
    if len({*ends.values()}) > 1:
        each = ", ".join(f"{label} at {end}" for label, end in ends.items())
        notes.append(f"Final accuracies are of different steps: the runs ended with {each}.")
    return kept, notes
