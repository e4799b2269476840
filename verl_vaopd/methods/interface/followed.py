"""A setting that is set, and that the method does not read, is refused by name: nothing of the run would follow it."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from verl_vaopd.methods.interface.method import Method, Refusal

OF_METHODS = (
    "degraded_view",
    "degradation",
    "degradation_ratio",
    "score",
    "rollout_weighting",
    "token_grouping",
    "temperature",
    "eps",
    "high_fraction",
    "high_weight",
    "mask_fraction",
    "mask_seed",
    "papo",
    "gkd",
    "mass",
)
"""Settings and sections of ``vaopd`` that not every method reads. Others are read whatever the method is, or refused by
:meth:`Method.refusals`."""


def unfollowed(method: Method, config) -> Iterator[Refusal]:
    """Of :data:`OF_METHODS` those that ``method.follows`` leaves out and that differ from their defaults."""
    own, usual = method.settings, {each.name: each for each in fields(method.settings)}
    for name in OF_METHODS:
        if name in method.follows:
            continue
        value = getattr(own, name)
        if is_dataclass(value):
            pairs = [(f"{name}.{each.name}", getattr(value, each.name), each.default) for each in fields(value)]
        else:
            default = config.data.seed if name == "mask_seed" else usual[name].default  # as vaopd_trainer.yaml has it
            pairs = [(name, value, default)]
        for full, is_now, default in pairs:
            told = f"{default!r}, its default: {method.name} does not read it, with the other settings as they are"
            yield is_now != default, f"vaopd.{full}", is_now, told
