"""How many examples hypothesis looks at."""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("VAOPD_FUZZ", 0))


def looked_at(few: int) -> settings:
    """The same ``few`` examples at each run; with VAOPD_FUZZ so many random ones."""
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
