"""``offpolicy_kd``: forward KL on the teacher's stored answers (Hinton et al. 2015, arXiv 1503.02531)."""

from collections.abc import Callable

from verl_vaopd.algorithm import fused_linear_forward_kl, opd_token_weights
from verl_vaopd.methods.interface.distillation import Distillation
from verl_vaopd.methods.interface.method import Step, Weighed


class OffPolicyKD(Distillation):
    title = "Off-policy KD"
    answers_by = "teacher"
    takes_reward = False

    @property
    def divergence(self) -> Callable:
        return fused_linear_forward_kl

    def weigh(self, step: Step) -> Weighed:
        return self.weighed(step, opd_token_weights(step.mask, step.prompts) / step.prompt_count)  # those of Eq. 1
