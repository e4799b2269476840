"""How vLLM divides a model's heads over the GPUs of a replica."""

from verl_vaopd.costs.shapes import TextShape

SETTING = "actor_rollout_ref.rollout.tensor_model_parallel_size"


def check_heads(student: TextShape, ranks: int) -> None:
    """Refuse a tensor parallelism of ``ranks`` GPUs that vLLM could not load the student with.

    Raises:
        ValueError: the student's heads are not divided; names the setting.
    """
    heads, keys = student.num_attention_heads, student.num_key_value_heads
    if heads % ranks:
        raise ValueError(f"{SETTING}={ranks}: must divide the student's {heads} attention heads")
    if keys % ranks and ranks % keys:  # fewer than GPUs: each is held by several
        raise ValueError(
            f"{SETTING}={ranks}: must divide the student's {keys} key-value heads, or be a multiple of them"
        )
