"""``verl-vaopd plan``: the plan (``planning/``) of a recipe whose settings a run would not refuse."""

from collections.abc import Sequence

from verl_vaopd.launch.aside import held_back
from verl_vaopd.planning.command import run


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: see :func:`run`."""
    return run(argv, refuse)


def refuse(config) -> None:
    """What ``verl-vaopd train`` refuses by the config alone.

    Raises:
        ValueError: names the setting.
    """
    from verl_vaopd.checks.start import check_settings

    with held_back():
        check_settings(config)
