"""Held-out problems: the host's validation, with the visual advantage of what the student said."""

import time
from collections import Counter
from collections.abc import Mapping

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size

from verl_vaopd.rollout.image_views import clear_views
from verl_vaopd.trainer.columns import uid_of
from verl_vaopd.trainer.tracking import draw_heat_maps


class Validation:
    """Validation as a part of a trainer of verl."""

    def _build_replay_buffer(self):
        """The host's, told to hand validation rollouts to the teacher before the host drops them."""
        replay_buffer = super()._build_replay_buffer()
        sample = replay_buffer.sample

        def sample_and_score(global_steps, partition_id, batch_size):
            batch, metrics = sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
            if partition_id == "val":
                self._check_all_came(batch, batch_size * self.config.actor_rollout_ref.rollout.val_kwargs.n)
                self._score_validation(batch)
            return batch, metrics

        replay_buffer.sample = sample_and_score
        return replay_buffer

    def on_validate_begin(self):
        self.phases.begin("validation")
        self.run_log.say(f"validating on {len(self.val_dataset)} held-out problems")

    def _score_validation(self, batch: KVBatchMeta) -> None:
        """VA of held-out rollouts, kept for :meth:`_validate`."""
        uids = [uid_of(key) for key in batch.keys]
        if self.method.teacher_views < 2:
            clear_views(uids)
            return
        offloaded = self.config.actor_rollout_ref.rollout.free_cache_engine
        if offloaded:
            self._free_devices()
        # The dispatch wants equal shares: the host adds rows that nothing counts.
        own, ranks = set(batch.keys), self.teacher_wg.world_size
        whole = KVBatchMeta(partition_id=batch.partition_id, keys=list(batch.keys), tags=list(batch.tags))
        whole = upsample_batch_to_divisible_size(whole, ranks, self.tokenizer.eos_token_id)
        self._deal_out(whole, own, ranks)  # each image and prompt on one rank, as in training
        self._score_views(whole, scores_only=True)
        if added := [key for key in whole.keys if key not in own]:
            tq.kv_clear(keys=added, partition_id=batch.partition_id)
        if offloaded:
            self._give_devices_back()
        step, _ = self._read_step(batch, self.method.score_names)
        evidence = self.method.evidence(step)
        self._validation_va, per_token = self.method.scores.logged(evidence, step.mask)
        self.token_log.validation(self.global_steps, batch, per_token)
        if self.trackers.trackers:
            draw_heat_maps(self.run_log, self.global_steps)
            self.trackers.images(self.global_steps)
        clear_views(uids)

    def _free_devices(self) -> None:
        """vLLM makes room for the teacher."""
        self.checkpoint_manager.sleep_replicas()

    def _give_devices_back(self) -> None:
        self.checkpoint_manager.update_weights(self.global_steps)

    def _validate(self) -> dict[str, float]:
        started = time.monotonic()
        metrics = super()._validate()
        self.time_left.took["testing"] = time.monotonic() - started
        reply = {f"val/{name}": value for name, value in self._validation_va.items()}
        reply |= accuracies(metrics, Counter(self.val_dataset.dataframe["data_source"]))
        va = f", mean VA {reply['val/va/mean']:.4f} nats" if self._validation_va else ""
        # What is only evaluated may have been trained before, by supervised fine-tuning.
        trained = self.run_log.chosen() if self.config.trainer.val_only else None
        step = trained["step"] if trained else self.global_steps
        self.run_log.say(f"validation at step {step}: accuracy {reply['val/accuracy']:.1%}{va}")
        if self._in_training:  # the host merges the metrics into the step's
            self.run_log.keep_best(self.global_steps, reply["val/accuracy"], self.config.trainer.default_local_dir)
        else:
            self._log({"step": step, "time/wall": time.time(), **reply})
        return {**metrics, **reply}


def accuracies(metrics: Mapping[str, float], problems: Mapping[str, int]) -> dict[str, float]:
    """``val/accuracy``, the mean over problems; beside it ``val/accuracy/SOURCE`` where there are several data sources.

    Args:
        metrics: the host's, which has a mean for each data source; problems: data source -> held-out problems.
    """
    found = {}
    for source in problems:
        start = f"val-core/{source}/acc/mean@"
        found[source] = next(value for name, value in metrics.items() if name.startswith(start))
    mean = sum(problems[source] * value for source, value in found.items()) / sum(problems.values())
    apart = {f"val/accuracy/{source}": value for source, value in found.items()} if len(found) > 1 else {}
    return {"val/accuracy": mean, **apart}
