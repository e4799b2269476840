"""Sections of ``vaopd`` that one method reads."""

from dataclasses import dataclass

from verl_vaopd.settings.values import is_number, is_whole, refuse


@dataclass
class PAPOConfig:
    """Coefficients of PAPO (Wang et al. 2025, arXiv 2507.06448), those of PAPO-G; docs/methods.md has their sources."""

    perception_weight: float = 0.01
    """gamma: of the perception KL, which is maximised."""
    entropy_weight: float = 0.03
    """eta_1: of the policy's entropy given the image, which is held down."""
    masked_entropy_weight: float = 0.03
    """eta_2: of its entropy given the masked image."""
    mask_ratio: float = 0.6
    """Probability of a patch to be black."""
    mask_patch_size: int = 14
    """Side of a patch, pixels."""

    def __post_init__(self):
        for name in ("perception_weight", "entropy_weight", "masked_entropy_weight"):
            value = getattr(self, name)
            refuse(not is_number(value) or value < 0, f"papo.{name}", value, "a number, 0 or more")
        ratio, size = self.mask_ratio, self.mask_patch_size
        refuse(not is_number(ratio) or not 0 < ratio <= 1, "papo.mask_ratio", ratio, "a number in (0, 1]")
        refuse(not is_whole(size) or size < 1, "papo.mask_patch_size", size, "a whole number, 1 or more")


@dataclass
class GKDConfig:
    """Generalized Knowledge Distillation (Agarwal et al. 2024, arXiv 2306.13649)."""

    beta: float = 0.5
    """Of the generalised Jensen-Shannon divergence: 0 is forward KL(p_T || p_S), 1 reverse KL(p_S || p_T)."""
    token_weights: str = "uniform"
    """How tokens weigh: ``uniform``, as in Standard OPD; ``visual_advantage``, as in VA-OPD (Eq. 3-6)."""

    def __post_init__(self):
        beta, weights = self.beta, self.token_weights
        refuse(not is_number(beta) or not 0 <= beta <= 1, "gkd.beta", beta, "a number in [0, 1]")
        wanted = "'uniform' or 'visual_advantage'"
        refuse(weights not in ("uniform", "visual_advantage"), "gkd.token_weights", weights, wanted)


@dataclass
class MassConfig:
    """Groups by mass (``vaopd_mass``); docs/methods.md."""

    share: float = 0.9
    """Share of a rollout's score that its high group carries. Visual advantage is heavy-tailed: in the paper (Fig. 2a)
    the top tenth of the tokens has about 93% of it."""
    tokens: str = "highest"
    """``highest``, those of the most score; ``random``: as many random ones (seed ``mask_seed``), a control."""

    def __post_init__(self):
        share, tokens = self.share, self.tokens
        refuse(not is_number(share) or not 0 < share < 1, "mass.share", share, "a number between 0 and 1, exclusive")
        refuse(tokens not in ("highest", "random"), "mass.tokens", tokens, "'highest' or 'random'")
