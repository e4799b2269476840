"""What to call a run: its method, and the settings in which it differs from the paper's."""

from verl_vaopd.methods import method_class, method_names

FIRST = ("Base", "CoT-SFT", "Off-policy KD", "GRPO", "PAPO", "Standard OPD")
LAST = ("VA-OPD, rollout weights only", "VA-OPD, token groups only", "VA-OPD", "VA-OPD, distribution score")
MASKED = tuple(f"{tokens} 10% masked" for tokens in ("random", "lowest-VA", "highest-VA"))
ORDER = (*FIRST, *MASKED, *LAST)


def order_of(label: str) -> int:
    """Sorts labels: baselines, Standard OPD and its masked variants, VA-OPD's parts, VA-OPD; others after them."""
    return ORDER.index(label) if label in ORDER else len(ORDER)


def label_of(config: dict) -> tuple[str, str]:
    """Name and kind of a run, from its resolved config.

    Returns:
        (label, kind): kind is ``masking`` (Section 2.2), ``ablation`` (Section 4.4 and sweeps) or ``method``. Runs that
        differ in their seeds only have the same label. A method from outside the package is called by its class.
    """
    vaopd = config["vaopd"]
    method = vaopd["method"]
    if method not in method_names():  # nothing is imported for a report
        name, extras, kind = method.rpartition(":")[2], [], None
    else:
        label = method_class(method).label(vaopd)
        name, extras, kind = label.name, list(label.extras), label.kind
    if kind:
        return name, kind
    if vaopd.get("reward_weight"):
        extras.append(f"reward {vaopd['reward_weight']:g}")
    if vaopd["degradation"] != "pixelation":
        extras.append(vaopd["degradation"].replace("_", " "))
    if vaopd["degradation_ratio"] != 0.1:
        extras.append(f"ratio {vaopd['degradation_ratio']:g}")
    rollouts = config["actor_rollout_ref"]["rollout"]["n"]
    if rollouts != 4:
        extras.append(f"K {rollouts}")
    return ", ".join([name, *extras]), "ablation" if extras else "method"
