"""A roofline of one training step: FLOPs, bytes, peak memory and predicted seconds of each phase, on one GPU.

The quantities of a :class:`Phase` are per GPU. Work is taken to be spread evenly over the GPUs, except in decoding,
which is planned for the GPU with the longest rollout.
"""

from verl_vaopd.costs.counts import Counts
from verl_vaopd.costs.generation import decode, prefill
from verl_vaopd.costs.phase import Phase
from verl_vaopd.costs.scoring import scoring
from verl_vaopd.costs.updating import optimising, updating, weight_sync


class Step(Counts):
    """One training step, phase by phase."""

    def phases(self) -> list[Phase]:
        """In the order of the step; no teacher where it scores no view."""
        coefficients = Phase("coefficients (driver)", memory=self.resident)
        teacher = [scoring(self)] if self.implementation.teacher_views else []
        student = [updating(self), optimising(self), weight_sync(self)]
        return [prefill(self), decode(self), *teacher, coefficients, *student]

    @property
    def seconds(self) -> float:
        """Predicted, of the whole step."""
        return sum(phase.seconds(self.device, self.assumptions) for phase in self.phases())

    @property
    def peak(self) -> Phase:
        """The phase that needs most memory."""
        return max(self.phases(), key=lambda phase: phase.peak_memory)
