"""The batch of a usual step: prompts, rollouts and their lengths; what follows from them alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """The batch of one optimiser step: one image per prompt, prompts of one length.

    One rollout has ``response_longest`` tokens, all others have one length such that the mean is ``response_mean``.

    Raises:
        ValueError: a count below 1, an image share outside [0, 1], or lengths that no batch can have.
    """

    prompts: int = 16
    rollouts: int = 4
    """K, per prompt."""
    prompt_tokens: int = 360
    """Including image tokens."""
    image_share: float = 0.8
    """Share of image tokens in the prompt's; at 0 a prompt has no image, and so no second view."""
    response_mean: float = 1200
    response_longest: int = 4096

    def __post_init__(self):
        for name in ("prompts", "rollouts", "prompt_tokens", "response_mean"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.image_share <= 1:
            raise ValueError(f"image_share must be in [0, 1], got {self.image_share}")
        if self.response_longest < self.response_mean:
            raise ValueError(f"the longest response ({self.response_longest}) is below the mean ({self.response_mean})")
        if self.count == 1 and self.response_longest != self.response_mean:
            raise ValueError("a single rollout is as long as the mean")
        if self.other_length < 1:
            raise ValueError(
                f"{self.count} rollouts of {self.response_mean} tokens on average cannot hold one of "
                f"{self.response_longest}"
            )

    @property
    def count(self) -> int:
        """N, rollouts of the step."""
        return self.prompts * self.rollouts

    @property
    def other_length(self) -> float:
        """Tokens of every rollout but the longest."""
        if self.count == 1:
            return self.response_mean
        return (self.count * self.response_mean - self.response_longest) / (self.count - 1)

    @property
    def image_tokens(self) -> int:
        return round(self.image_share * self.prompt_tokens)

    @property
    def response_tokens(self) -> float:
        """T, of all rollouts."""
        return self.count * self.response_mean

    def response_pairs(self, count: int) -> float:
        """Query-key pairs of the response tokens of ``count`` rollouts, the longest among them.

        Token t of a response attends to P + t keys: P R + R (R + 1) / 2 pairs for R tokens.
        """

        def pairs(length):
            return self.prompt_tokens * length + length * (length + 1) / 2

        return pairs(self.response_longest) + (count - 1) * pairs(self.other_length)

    @property
    def prompt_pairs(self) -> float:
        """Query-key pairs within one prompt, causal."""
        return self.prompt_tokens * (self.prompt_tokens + 1) / 2
