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
        (label, kind): kind is ``masking`` (Section 2.2), ``ablation`` (Section 4.4, sweeps, what is trained) or
        ``method``, with partial rollouts too. Runs that differ in their seeds only have the same label. A method from
        outside the package is called by its class.
    """
    vaopd = config["vaopd"]
    method = vaopd["method"]
    if method not in method_names():  # nothing is imported for a report
        name, extras, kind = method.rpartition(":")[2], [], None
    else:
        label = method_class(method).label(vaopd)
        name, extras, kind = label.name, list(label.extras), label.kind
    name += partial_rollouts(config)
    if kind:
        return name, kind
    if vaopd.get("reward_weight"):
        extras.append(f"reward {vaopd['reward_weight']:g}")
    if vaopd["degradation"] != "pixelation":
        extras.append(vaopd["degradation"].replace("_", " "))
    if vaopd["degradation_ratio"] != 0.1:
        extras.append(f"ratio {vaopd['degradation_ratio']:g}")
    rollouts, model = config["actor_rollout_ref"]["rollout"]["n"], config["actor_rollout_ref"]["model"]
    if rollouts != 4:
        extras.append(f"K {rollouts}")
    if model["lora_rank"]:
        extras.append(f"LoRA {model['lora_rank']}")
    if vaopd.get("freeze"):
        extras.append(f"{' and '.join(vaopd['freeze'])} frozen")
    return ", ".join([name, *extras]), "ablation" if extras else "method"


def partial_rollouts(config: dict) -> str:
    """What ``trainer_mode=colocate_async`` adds to a name: batches ahead and the bound on a prompt's steps."""
    host = config["trainer"]["v1"]
    if host["trainer_mode"] == "sync":
        return ""
    ahead, bound = host["colocate_async"]["num_warmup_batches"], host["sampler"]["max_off_policy_threshold"]
    return f", partial rollouts {ahead:g}/{'no bound' if bound is None else bound}"
