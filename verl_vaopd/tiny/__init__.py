"""The embedded default: a tiny Qwen3-VL teacher that reads, a student that reads badly, and their data.

Importing this package imports no torch: ``python -m verl_vaopd.tiny`` answers at once when everything is made.
"""


def random_models(output_dir, seed: int = 0, student_hidden: int = 64, teacher_hidden: int = 128, std: float = 0.15):
    """Write an untrained student and teacher; see ``verl_vaopd.tiny.models.random_models``.

    Returns:
        The folders (student, teacher).
    """
    from verl_vaopd.tiny import models

    return models.random_models(output_dir, seed, student_hidden, teacher_hidden, std)
