"""How old the tokens of a step are: by how many updates the weights that wrote them are behind the student."""

from torch import Tensor


def staleness(versions: Tensor, mask: Tensor, current: int) -> tuple[Tensor, dict[str, float]]:
    """Which tokens are not of the current weights, and how old rollouts are.

    Args:
        versions: [N, T], the update after which the weights stood that wrote each token; mask: [N, T] bool, responses.
        current: the same of the student now.
    Returns:
        [N, T] bool; metrics ``staleness/mean`` and ``staleness/max`` over rollouts, each counted by its oldest token,
        in updates, and ``staleness/tokens``, the share of tokens that are not of the current weights.
    """
    age = (current - versions).where(mask, 0)
    oldest, stale = age.amax(dim=1), age > 0
    return stale, {
        "staleness/mean": float(oldest.double().mean()),
        "staleness/max": float(oldest.max()),
        "staleness/tokens": int(stale.sum()) / int(mask.sum()),
    }
