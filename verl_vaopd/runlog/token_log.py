"""Rollouts in the run's folder, token by token: a few of each step, and the same held-out ones at each validation."""

from collections.abc import Callable

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta

from verl_vaopd.runlog.alarm import WARN, Alarm
from verl_vaopd.runlog.run_log import RunLog


class TokenLog:
    """Reads what is logged from TransferQueue, while it is there, and writes it through the run's log.

    prompts: of a step whose rollouts are logged (``vaopd.log_rollout_prompts``); held_out: rollouts of a validation
        (``vaopd.log_validation_rollouts``).
    thumbnails: from uids of prompts to uid -> WebP file, of those that have images.
    """

    def __init__(
        self,
        run_log: RunLog,
        tokenizer,
        prompts: int,
        held_out: int,
        thumbnails: Callable[[list[str]], dict[str, bytes]],
    ):
        self.run_log, self.tokenizer, self.thumbnails = run_log, tokenizer, thumbnails
        self.prompts, self.held_out = prompts, held_out

    def training(
        self,
        step: int,
        batch: KVBatchMeta,
        real: list[int],
        uids: list[str],
        per_rollout: dict[str, torch.Tensor],
        per_token: dict[str, torch.Tensor],
    ) -> None:
        """What the first few prompts' rollouts said and how each token was weighed.

        Args:
            real, uids: places in the batch and prompts of its real rows.
            per_rollout: name -> [real rows]; per_token: name -> [real rows, T].
        """
        prompts = list(dict.fromkeys(uids))[: self.prompts]
        chosen = [row for row, uid in enumerate(uids) if uid in prompts]
        columns = {name: values[chosen] for name, values in per_token.items()}
        rows = self._rows(batch, [real[row] for row in chosen], columns)
        for row, record in zip(chosen, rows, strict=True):
            record |= {"prompt": prompts.index(uids[row])}
            record |= {name: float(values[row]) for name, values in per_rollout.items()}
        self.run_log.rollouts(step, rows)

    def alarm(
        self,
        step: int,
        alarm: Alarm,
        batch: KVBatchMeta,
        real: list[int],
        uids: list[str],
        per_token: dict[str, torch.Tensor],
    ) -> str:
        """Say an alarm and save the rollouts it concerns; of a warning about all of them, the first few prompts'.

        Args: as :meth:`training` takes them.
        Returns:
            The alarm with the names of the rows.
        """
        places = range(len(real)) if alarm.rows is None else alarm.rows
        if alarm.rule == WARN:
            prompts = list(dict.fromkeys(uids))[: max(1, self.prompts)]
            places = [row for row in places if uids[row] in prompts]
        columns = {name: values[list(places)] for name, values in per_token.items()}
        rows = self._rows(batch, [real[row] for row in places], columns)
        return self.run_log.alarm(step, alarm.name, alarm.text, rows)

    def validation(self, step: int, batch: KVBatchMeta, per_token: dict[str, torch.Tensor]) -> None:
        """What was said to the first held-out problems by id: the same ones at each validation.

        Args:
            per_token: name -> [rows of the batch, T].
        """
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_info"])
        ids = [str(info.get("id", info.get("index"))) for info in list(data["extra_info"])]
        chosen = sorted(range(len(ids)), key=lambda row: (ids[row], batch.keys[row]))
        chosen = chosen[: self.held_out]
        columns = {name: values[chosen] for name, values in per_token.items()}
        self.run_log.rollouts(step, self._rows(batch, chosen, columns), kind="validation")

    def _rows(self, batch: KVBatchMeta, places: list[int], columns: dict[str, torch.Tensor]) -> list[dict]:
        """The rollouts at ``places`` of the batch, with ``columns`` [places, T] cut to their lengths."""
        if not places:
            return []
        data = tq.kv_batch_get(
            keys=[batch.keys[place] for place in places],
            partition_id=batch.partition_id,
            select_fields=["uid", "prompts", "responses", "rm_scores", "extra_info"],
        )
        names = ("prompts", "responses", "rm_scores")
        fields = zip(*(data[name].unbind() for name in names), list(data["extra_info"]), list(data["uid"]), strict=True)
        images = {uid: self.run_log.image(image) for uid, image in self.thumbnails(list(data["uid"])).items()}
        decode = self.tokenizer.decode
        rows = []
        for index, (prompt, response, reward, info, uid) in enumerate(fields):
            values = {name: column[index, : len(response)].tolist() for name, column in columns.items()}
            mean_va = {"mean_va": sum(values["va"]) / len(response)} if "va" in values else {}
            rows.append(
                {
                    "id": info.get("id"),
                    "question": decode(prompt, skip_special_tokens=True),
                    "image": images.get(uid),
                    "tokens": [decode([token]) for token in response],
                    "token_ids": response.tolist(),
                    "accuracy": float(reward.sum()),
                    **mean_va,
                    **values,
                }
            )
        return rows
