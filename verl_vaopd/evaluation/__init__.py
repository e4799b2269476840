"""The paper's eight benchmarks: sampling from a served checkpoint, scores by the toolkit's own scorers, avg@k."""


class EvaluationError(Exception):
    """What the user must see and mend; the text says how."""
