"""``trainer.v1.trainer_mode=colocate_async``: a step takes the first prompts whose rollouts are all there.

The others are interrupted, keep their tokens and go on under the next weights. The host interrupts and resumes; here is
what a step of this package does differently then.
"""

import transfer_queue as tq
from torch import Tensor
from transfer_queue import KVBatchMeta

from verl_vaopd.rollout.image_views import PARTITION as VIEWS
from verl_vaopd.rollout.image_views import clear_views
from verl_vaopd.rollout.partial import VERSION, PartialRolloutClient
from verl_vaopd.student.engine import STALE
from verl_vaopd.trainer.columns import read_tokens, uid_of, write_tokens
from verl_vaopd.trainer.staleness import staleness

TRAIN = "train"


class PartialRollouts:
    """Rollouts of several versions of the student in one step, as a part of a trainer of verl."""

    def get_llm_client(self):
        """The host's, which also says which weights wrote what."""
        return self.llm_server_manager.get_client(client_cls=PartialRolloutClient)

    # ------------------------------------------------------------------ prompts

    def prepare_step(self) -> dict:
        """Differs from the host's in that no prompt is begun that no step is left for."""
        self._add_prompts_to_generate(self.config.data.train_batch_size)
        return {}

    def _add_prompts_to_generate(self, num_prompts: int) -> int:
        """As many as the steps to come can use, beside those on their way."""
        steps = self.planned_steps - self.global_steps + 1
        wanted = steps * self.config.data.train_batch_size - len(prompts_on_their_way())
        number = min(num_prompts, wanted)
        return super()._add_prompts_to_generate(number) if number > 0 else 0

    def _build_replay_buffer(self):
        """The host's, which would put another prompt in the place of one that failed."""
        replay_buffer = super()._build_replay_buffer()
        replay_buffer.refill_fn = _stop_for_failed
        return replay_buffer

    # ------------------------------------------------------------------ a step

    def _provenance(self, batch: KVBatchMeta, metrics: dict) -> dict[str, Tensor]:
        """How old the tokens are. The student's log-probabilities are compared with vLLM's on those of its weights."""
        columns, mask, _, real = read_tokens(batch, VERSION)
        stale, found = staleness(columns[VERSION], mask, self.global_steps - 1)
        write_tokens(batch, real, {STALE: stale.float()})
        metrics.update(found)
        return {VERSION: columns[VERSION]}

    @property
    def _own_fields(self) -> list[str]:
        return [*super()._own_fields, STALE]

    # ------------------------------------------------------------------ validation

    def _free_devices(self) -> None:
        """Before a synchronous validation's: interrupt the rollouts."""
        self.checkpoint_manager.abort_replicas()
        super()._free_devices()

    def _give_devices_back(self) -> None:
        super()._give_devices_back()
        self.checkpoint_manager.resume_generation_replicas()

    # ------------------------------------------------------------------ checkpoints

    def _load_checkpoint(self):
        """After the host's, which restores what was in TransferQueue: drop the rollouts of the step that was saved."""
        super()._load_checkpoint()
        prompts = prompts_on_their_way()
        held = {TRAIN: [], VIEWS: [], **tq.kv_list()}
        if trained := [key for key in held[TRAIN] if uid_of(key) not in prompts]:
            tq.kv_clear(keys=trained, partition_id=TRAIN)
        clear_views([uid for uid in held[VIEWS] if uid not in prompts])


def prompts_on_their_way() -> set[str]:
    """Ids of the prompts whose rollouts are on their way, or there and not yet trained on."""
    rows = tq.kv_list(TRAIN).get(TRAIN, {})
    return {key for key, tag in rows.items() if tag.get("is_prompt", False)}


def _stop_for_failed(prompts: int) -> None:
    raise RuntimeError(f"rollouts of {prompts} prompts failed: progress.log names the rows")
