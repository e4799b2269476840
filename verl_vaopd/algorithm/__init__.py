"""The equations of VA-OPD (arXiv 2605.21924), one idea a file; imports torch, numpy and PIL only.

Shape legend:
    N   rollouts: any number of prompts, their siblings in any order
    K   sibling rollouts of one prompt; may differ from prompt to prompt
    T   response tokens, padded to the longest; column order is token order
    M   rows, one per response token of any rollouts, without padding
    V   vocabulary: the tokenizer's ids
    R   rows of an output head, R >= V; the rows from V on are padding and take part in nothing
    Ds  hidden size of the student;  Dt  hidden size of the teacher
"""

from verl_vaopd.algorithm.degradations import blank, gaussian_blur, mask_patches
from verl_vaopd.algorithm.forward_kl import fused_linear_forward_kl
from verl_vaopd.algorithm.fused_jensen_shannon import fused_linear_jsd
from verl_vaopd.algorithm.fused_reverse_kl import fused_linear_reverse_kl
from verl_vaopd.algorithm.fused_view_kl import fused_linear_view_kl
from verl_vaopd.algorithm.high_group import high_token_counts, high_va_mask
from verl_vaopd.algorithm.jensen_shannon import generalised_jsd
from verl_vaopd.algorithm.linear_log_softmax import default_chunk_size
from verl_vaopd.algorithm.mass_group import high_mass_mask, random_group
from verl_vaopd.algorithm.patch_masking import blacken_patches
from verl_vaopd.algorithm.perception import perception_kl, perception_terms
from verl_vaopd.algorithm.pixelation import pixelate
from verl_vaopd.algorithm.policy_log_probs import policy_log_probs
from verl_vaopd.algorithm.reverse_kl import reverse_kl
from verl_vaopd.algorithm.rollout_weights import rollout_weights, uniform_rollout_weights
from verl_vaopd.algorithm.token_entropy import token_entropy
from verl_vaopd.algorithm.token_log_probs import token_log_probs
from verl_vaopd.algorithm.token_masking import masked_tokens
from verl_vaopd.algorithm.token_weights import (
    grouped_token_weights,
    opd_token_weights,
    token_weights,
    uniform_token_weights,
)
from verl_vaopd.algorithm.visual_advantage import mean_visual_advantage, visual_advantage

__all__ = [
    "blacken_patches",
    "blank",
    "default_chunk_size",
    "fused_linear_forward_kl",
    "fused_linear_jsd",
    "fused_linear_reverse_kl",
    "fused_linear_view_kl",
    "gaussian_blur",
    "generalised_jsd",
    "grouped_token_weights",
    "high_mass_mask",
    "high_token_counts",
    "high_va_mask",
    "mask_patches",
    "masked_tokens",
    "mean_visual_advantage",
    "opd_token_weights",
    "perception_kl",
    "perception_terms",
    "pixelate",
    "policy_log_probs",
    "random_group",
    "reverse_kl",
    "rollout_weights",
    "token_entropy",
    "token_log_probs",
    "token_weights",
    "uniform_rollout_weights",
    "uniform_token_weights",
    "visual_advantage",
]
