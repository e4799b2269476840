"""The processes that an evaluation talks to: a vLLM server of the checkpoint, the judge behind a relay, the toolkit."""


class EvaluationError(Exception):
    """What the user must see and mend; the text says how."""
