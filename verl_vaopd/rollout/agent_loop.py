"""Rollout side: the two views of a prompt's images are made here, once per prompt, before its K rollouts start."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable
from functools import cached_property

import ray
import transfer_queue as tq
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.model import compute_position_id_with_mask

from verl_vaopd.answers.store import StoredAnswers
from verl_vaopd.data.dataset import images_of
from verl_vaopd.methods import Method, method_of
from verl_vaopd.rollout.image_views import budgeted, degraded_images, encode_views, put_views, rendered
from verl_vaopd.rollout.partial import VERSION, WRITTEN_BY, versions
from verl_vaopd.rollout.replay import STORED_ANSWER
from verl_vaopd.rollout.single_turn import UNEXPANDED
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.settings.config import VAOPDConfig


def with_image_parts(messages: list[dict], change: Callable[[dict], dict]) -> list[dict]:
    """A chat whose image parts went through ``change``, in order."""
    return [
        {
            **message,
            "content": [change(part) if part["type"] == "image" else part for part in message["content"]]
            if isinstance(message["content"], list)
            else message["content"],
        }
        for message in messages
    ]


def without_images(messages: list[dict]) -> list[dict]:
    """A chat whose image parts no longer hold the image."""
    return with_image_parts(messages, lambda part: {"type": "image"})


def with_images(messages: list[dict], images: Iterable) -> list[dict]:
    """A chat with other images in the places of its own, in order."""
    images = iter(images)
    return with_image_parts(messages, lambda part: {**part, "image": next(images)})


def _name(row: dict) -> str:
    return (row.get("extra_info") or {}).get("id", f"index {row.get('index')}")


def seed_of(seed: int, prompt: str, session: int) -> int:
    """A rollout's own seed, 0 to 2^31 - 1: the same whenever the step is done, another for every sibling."""
    digest = hashlib.sha256(f"{seed}/{prompt}/{session}".encode()).digest()
    return int.from_bytes(digest[:4], "little") & 0x7FFFFFFF


# The host publishes its worker as a Ray actor class; a Ray actor class cannot be subclassed, the class in it can.
class VisionAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """The host's worker, with image tensors stored per prompt instead of per rollout."""

    @cached_property
    def vaopd(self) -> VAOPDConfig:
        return omega_conf_to_dataclass(self.config.vaopd)

    @cached_property
    def method(self) -> Method:
        return method_of(self.vaopd)

    @cached_property
    def answers(self) -> StoredAnswers:
        return StoredAnswers(self.vaopd.answers)

    async def _run_prompt(self, prompt: dict, sampling_params: dict, trajectory: dict, trace: bool = False) -> None:
        """Before the host's: encode both views and store them under the prompt's uid."""
        try:
            images = images_of(prompt["raw_prompt"])
            if images:
                views, degraded = await asyncio.get_running_loop().run_in_executor(
                    None, self._views_of, prompt["raw_prompt"], images, self._second_view(trajectory)
                )
                await put_views(prompt["uid"], views)
                if self.method.shows_second_view:
                    prompt = {**prompt, "raw_prompt": with_images(prompt["raw_prompt"], degraded)}
        except Exception as error:
            # This coroutine is nobody's: an error that left it would leave the driver waiting for the prompt.
            self._report(prompt, error)
            partition = "val" if trajectory["validate"] else "train"
            await tq.async_kv_put(key=prompt["uid"], partition_id=partition, tag={"status": "failure"})
            return
        await super()._run_prompt(prompt, sampling_params, trajectory, trace)

    def _views_of(self, chat: list[dict], images: list, degrade) -> tuple[dict, list | None]:
        """For :func:`put_views`, and the degraded images."""
        degraded = degraded_images(images, degrade)
        text, processor = rendered(self.processor, chat, self.config.data), budgeted(self.processor, self.config.data)
        return encode_views(text, images, processor, degraded), degraded

    def _second_view(self, trajectory: dict):
        """How the second view of a prompt's images is made, by the method; None: there is none."""
        # A step that is run again draws the same, and another step something else.
        rng = random.Random(f"{self.config.data.seed}/{trajectory['step']}/{trajectory['sample_index']}")
        return self.method.second_view(rng, trajectory["validate"])

    async def _run_agent_loop(self, sampling_params, trajectory, **kwargs):
        """The host's, whose errors reach the person who watches; the driver then stops for want of rollouts.

        Off-policy, training answers are the teacher's stored ones instead of the student's samples.
        """
        try:
            kwargs["agent_name"] = UNEXPANDED
            if self.method.answers_by == "teacher" and not trajectory["validate"]:
                kwargs["agent_name"] = STORED_ANSWER
                kwargs["stored_answer"] = self.answers.of(kwargs["extra_info"]["id"], kwargs["session_id"])
            if self.vaopd.seed_rollouts:
                prompt = f"val/{trajectory['sample_index']}" if trajectory["validate"] else kwargs["uid"]
                seed = seed_of(self.config.actor_rollout_ref.rollout.seed, prompt, kwargs["session_id"])
                sampling_params = {**sampling_params, "seed": seed}
            return await super()._run_agent_loop(sampling_params, trajectory, **kwargs)
        except Exception as error:
            self._report(kwargs, error)
            raise

    def _report(self, row: dict, error: Exception) -> None:
        RunLog(self.config.vaopd.output_dir).say(f"rollout of row {_name(row)} failed: {type(error).__name__}: {error}")

    def _alarm_of_empty(self, prompt_ids: list[int], row: dict) -> None:
        """Where the driver, which then stops for want of rollouts, cannot see it."""
        log, step = RunLog(self.config.vaopd.output_dir), row["global_steps"]
        sample = {"id": _name(row), "question": self.tokenizer.decode(prompt_ids), "tokens": [], "token_ids": []}
        log.alarm(step, "empty_rollout", "vLLM returned a response without any token: the run stops", [sample])
        log.metrics({"step": step, "alarms": ["empty_rollout"]})

    async def _agent_loop_postprocess(self, output: AgentLoopOutput | list, validate: bool, **kwargs) -> None:
        """Before the host's: a rollout row keeps the chat's text without images, and which weights wrote its tokens."""
        kwargs.pop("stored_answer", None)
        kwargs["raw_prompt"] = without_images(kwargs["raw_prompt"])
        limit = self.rollout_config.prompt_length
        for part in output if isinstance(output, list) else [output]:
            if not part.response_ids:
                self._alarm_of_empty(part.prompt_ids, kwargs)
                raise RuntimeError("vLLM returned a response without any token")
            if len(part.prompt_ids) >= limit:  # the host cuts a text-only prompt to the limit, silently
                raise ValueError(
                    f"the prompt has {limit} tokens or more, data.max_prompt_length is {limit}: raise it above the "
                    "longest prompt or take the row out (prompts are never cut)"
                )
            written_by = part.extra_fields.pop(WRITTEN_BY, None)  # None: each step's rollouts are of one version
            if written_by and not validate:
                kwargs[VERSION] = versions(written_by, len(part.response_ids))
        await super()._agent_loop_postprocess(output, validate, **kwargs)

    def _compute_multi_modal_inputs(self, output, input_ids) -> dict:
        """Differs from the host's: no processor pass and no pixel values per rollout (see ``rollout.image_views``)."""
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
