"""Rollout side: the two views of a prompt's images are made here, once per prompt, before its K rollouts start."""

import asyncio

import ray
import transfer_queue as tq
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
from verl.utils.model import compute_position_id_with_mask

from verl_vaopd.data.dataset import images_of
from verl_vaopd.trainer.run_log import RunLog
from verl_vaopd.trainer.vision import budgeted, degradation_of, encode_views, put_views


def without_images(messages: list[dict]) -> list[dict]:
    """A chat whose image parts no longer hold the image."""
    return [
        {
            **message,
            "content": [{"type": "image"} if part["type"] == "image" else part for part in message["content"]]
            if isinstance(message["content"], list)
            else message["content"],
        }
        for message in messages
    ]


# The host publishes its worker as a Ray actor class; a Ray actor class cannot be subclassed, the class in it can.
class VisionAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """The host's worker, with image tensors stored per prompt instead of per rollout."""

    async def _run_prompt(self, prompt: dict, sampling_params: dict, trajectory: dict, trace: bool = False) -> None:
        """Before the host's: encode both views and store them under the prompt's uid."""
        try:
            images = images_of(prompt["raw_prompt"])
            if images:
                settings = self.config.vaopd
                degrade = degradation_of(settings) if settings.degraded_view else None
                views = await asyncio.get_running_loop().run_in_executor(
                    None, encode_views, images, budgeted(self.processor, self.config.data), degrade
                )
                await put_views(prompt["uid"], views)
        except Exception as error:
            # This coroutine is nobody's: an error that left it would leave the driver waiting for the prompt.
            self._report(prompt, error)
            partition = "val" if trajectory["validate"] else "train"
            await tq.async_kv_put(key=prompt["uid"], partition_id=partition, tag={"status": "failure"})
            return
        await super()._run_prompt(prompt, sampling_params, trajectory, trace)

    async def _run_agent_loop(self, sampling_params, trajectory, **kwargs):
        """The host's, whose errors reach the person who watches; the driver then stops for want of rollouts."""
        try:
            return await super()._run_agent_loop(sampling_params, trajectory, **kwargs)
        except Exception as error:
            self._report(kwargs, error)
            raise

    def _report(self, row: dict, error: Exception) -> None:
        name = (row.get("extra_info") or {}).get("id", f"index {row.get('index')}")
        RunLog(self.config.vaopd.output_dir).say(f"rollout of row {name} failed: {type(error).__name__}: {error}")

    async def _agent_loop_postprocess(self, output: AgentLoopOutput | list, validate: bool, **kwargs) -> None:
        """Before the host's: a rollout row keeps the chat's text, not its images."""
        kwargs["raw_prompt"] = without_images(kwargs["raw_prompt"])
        limit = self.rollout_config.prompt_length
        for part in output if isinstance(output, list) else [output]:
            if not part.response_ids:
                raise RuntimeError("vLLM returned a response without any token")
            if len(part.prompt_ids) >= limit:  # the host cuts a text-only prompt to the limit, silently
                raise ValueError(
                    f"the prompt has {limit} tokens or more, data.max_prompt_length is {limit}: raise it above the "
                    "longest prompt or take the row out (prompts are never cut)"
                )
        await super()._agent_loop_postprocess(output, validate, **kwargs)

    def _compute_multi_modal_inputs(self, output, input_ids) -> dict:
        """Differs from the host's: no processor pass and no pixel values per rollout (see ``trainer.vision``)."""
        return {}

    def _compute_position_ids(self, input_ids, attention_mask, multi_modal_inputs, mm_processor_kwargs=None):
        """Differs from the host's: plain positions, which no engine of this package reads.

        The engines derive multimodal positions from token ids and image grids. The host's 3-D position ids cannot be
        stored safely: rows of equal length are nested along the wrong dimension.
        """
        return compute_position_id_with_mask(attention_mask)


class VisionAgentLoopManager(AgentLoopManagerTQ):
    """The host's manager with the worker above (``rollout.agent.agent_loop_manager_class``)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(VisionAgentLoopWorker)
