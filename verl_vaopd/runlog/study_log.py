"""The folder of a run of the study of dilution: what its files hold once it has ended."""

SETTINGS, UPDATES, DONE, CHOSEN = "study.json", "updates.jsonl", "summary.json", "own_rate.json"
NUMBER = (int, float)
SAID = {"title": str, "figures": str, "seed": int, "updates": int, "prompts": int, "rollouts": int}
SAID |= {"cell": dict, "regime": str, "rate": NUMBER, "words": int}  # the cell, and what it says
TOGETHER = (("tokens", "visual_tokens"), ("kl_sum", "kl_visual_sum"), ("weighted", "weighted_visual"))


def check_settings(settings) -> None:
    """Of ``SETTINGS``, as read.

    Raises:
        ValueError: not all of ``SAID`` is said.
    """
    said = settings if isinstance(settings, dict) else {}
    said = {**said, **cell} if isinstance(cell := said.get("cell"), dict) else said
    if lacking := [name for name, kind in SAID.items() if not isinstance(said.get(name), kind)]:
        raise ValueError(f"it does not say {', '.join(lacking)}")


def check_log(records: list, updates: int) -> None:
    """Of ``UPDATES``, as read: sums of each update, the held-out loss before the first and after the last, accuracy.

    Raises:
        ValueError: what of these it does not hold; the message goes on from the file's name.
    """
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict) or not all(isinstance(value, NUMBER) for value in record.values()):
            raise ValueError(f"holds a line {number} that is no object of numbers")
    counts = {name: sum(name in record for record in records) for names in TOGETHER for name in names}
    if not updates or counts["tokens"] != updates:
        raise ValueError(f"holds {counts['tokens']} updates of {updates}")
    for one, other in TOGETHER:
        if {counts[one], counts[other]} not in ({0}, {updates}):
            raise ValueError(f"holds {one} of {counts[one]} updates, {other} of {counts[other]}, not both of {updates}")
    measured = [record.get("update") for record in records if "nll" in record]
    if measured[:1] + measured[-1:] != [0, updates]:
        raise ValueError(f"does not hold the held-out loss (nll) of update 0 and of update {updates}")
    if not any("accuracy" in record for record in records):
        raise ValueError("holds no accuracy")
