"""Student, teacher and vLLM must run the same prompt: vLLM expands image tokens by itself, and is looked after."""

from collections.abc import AsyncIterator

RAN = "prompt_that_vllm_ran"
"""Field of an answer: see :mod:`verl_vaopd.rollout.prompt_server`."""


async def noting(generate, prompts: dict[str, list[int]], *args, request_id: str, **kwargs) -> AsyncIterator:
    """vLLM's ``generate``, which leaves the ids of the prompt in ``prompts``."""
    async for output in generate(*args, request_id=request_id, **kwargs):
        prompts[request_id] = output.prompt_token_ids
        yield output


def require_same_prompt(processors: list[int], vllms: list[int] | None) -> None:
    """Compare the ids of a prompt that the processor made, on which the student is trained, with those that vLLM ran.
    None: it ran none.

    Raises:
        ValueError: counts and the first difference.
    """
    if vllms is None or vllms == processors:
        return
    pairs = zip(processors, vllms, strict=False)
    at = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(processors), len(vllms)))
    ours, its = (str(ids[at]) if at < len(ids) else "nothing" for ids in (processors, vllms))
    raise ValueError(
        f"vLLM ran a prompt of {len(vllms)} tokens, the processor makes {len(processors)} of it; they part at place "
        f"{at}: {its} against {ours}. The student would learn from answers to another prompt: compare the checkpoint's "
        "processor and data.mm_processor_kwargs with what vLLM's processor of this model takes"
    )
