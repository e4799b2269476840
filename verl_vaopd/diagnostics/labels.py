"""What to call a run: its method and the settings in which it differs from the paper's."""

METHODS = {
    "base": "Base",
    "cot_sft": "CoT-SFT",
    "offpolicy_kd": "Off-policy KD",
    "grpo": "GRPO",
    "papo": "PAPO",
    "opd": "Standard OPD",
    "vaopd": "VA-OPD",
}
MASKED = {"random": "random", "lowest_va": "lowest-VA", "highest_va": "highest-VA"}
COMPONENTS = {
    (True, False): "rollout weights only",
    (False, True): "token groups only",
    (False, False): "neither component",
}
ORDER = [*METHODS.values()][:-1] + [f"{name} 10% masked" for name in MASKED.values()]
ORDER += ["VA-OPD, rollout weights only", "VA-OPD, token groups only", "VA-OPD", "VA-OPD, distribution score"]
OF_VAOPD = {"temperature": ("\N{GREEK SMALL LETTER TAU}", 1.0), "high_weight": ("\N{GREEK SMALL LETTER LAMDA}", 0.5)}
OF_VAOPD["high_fraction"] = ("p_v", 0.2)


def order_of(label: str) -> int:
    """Sorts labels: baselines, Standard OPD and its masked variants, VA-OPD's parts, VA-OPD; others after them."""
    return ORDER.index(label) if label in ORDER else len(ORDER)


def label_of(config: dict) -> tuple[str, str]:
    """Name and kind of a run, from its resolved config.

    Returns:
        (label, kind): kind is ``masking`` (Section 2.2), ``ablation`` (Section 4.4 and sweeps) or ``method``. Runs that
        differ in their seeds only have the same label.
    """
    vaopd = config["vaopd"]
    method = vaopd["method"]
    name = METHODS.get(method, method)
    if vaopd["mask_tokens"] != "none":
        return f"{MASKED[vaopd['mask_tokens']]} {vaopd['mask_fraction']:.0%} masked", "masking"
    extras = []
    if method == "vaopd":
        if vaopd["score"] == "distribution":
            name += ", distribution score"
        components = (vaopd["rollout_weighting"], vaopd["token_grouping"])
        extras += [COMPONENTS[components]] if components in COMPONENTS else []
        extras += [f"{text} {vaopd[key]:g}" for key, (text, usual) in OF_VAOPD.items() if vaopd[key] != usual]
    if vaopd["degradation"] != "pixelation":
        extras.append(vaopd["degradation"].replace("_", " "))
    if vaopd["degradation_ratio"] != 0.1:
        extras.append(f"ratio {vaopd['degradation_ratio']:g}")
    rollouts = config["actor_rollout_ref"]["rollout"]["n"]
    if rollouts != 4:
        extras.append(f"K {rollouts}")
    return ", ".join([name, *extras]), "ablation" if extras else "method"
