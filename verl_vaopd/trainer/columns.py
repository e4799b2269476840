"""Columns of a batch in TransferQueue, read and written by the driver. A row's key is "{uid}_{session}_{index}"."""

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu


def uid_of(key: str) -> str:
    """The prompt that a row belongs to."""
    return key.split("_")[0]


def key_order(key: str) -> tuple[str, int, int]:
    """What rows are sorted by: prompt, session and index as numbers."""
    uid, session, index = key.rsplit("_", 2)
    return uid, int(session), int(index)


def real_rows(batch: KVBatchMeta) -> list[int]:
    """Places of the rows that the host did not add to make the batch divisible by the ranks."""
    return [place for place, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]


def select(batch: KVBatchMeta, fields: list[str]) -> KVBatchMeta:
    """The batch with only these fields, which is what then travels to the workers."""
    return KVBatchMeta(partition_id=batch.partition_id, keys=batch.keys, tags=batch.tags, fields=fields, extra_info={})


def read_tokens(batch: KVBatchMeta, *names: str) -> tuple[dict[str, torch.Tensor], torch.Tensor, list[str], list[int]]:
    """Numbers per token of the real rows.

    Returns:
        name -> [N, longest response], zero padded; their mask, bool; those rows' uids and places in the batch.
    """
    real = real_rows(batch)
    data = tq.kv_batch_get(
        keys=[batch.keys[place] for place in real],
        partition_id=batch.partition_id,
        select_fields=["uid", "response_mask", *names],
    )
    mask = pad_rows(data["response_mask"]).bool()
    return {name: pad_rows(data[name]) for name in names}, mask, list(data["uid"]), real


def write_tokens(batch: KVBatchMeta, real: list[int], columns: dict[str, torch.Tensor]) -> None:
    """Write columns [real rows, T]; rows that the host added get zeros."""
    rows = {place: row for row, place in enumerate(real)}
    nested = {
        name: [
            values[rows[place], : tag["response_len"]].float() if place in rows else torch.zeros(tag["response_len"])
            for place, tag in enumerate(batch.tags)
        ]
        for name, values in columns.items()
    }
    fields = {name: torch.nested.as_nested_tensor(values, layout=torch.jagged) for name, values in nested.items()}
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=tu.get_tensordict(fields))


def pad_rows(rows: torch.Tensor) -> torch.Tensor:
    """[N, longest] from a batch of rows of any lengths, zero padded on the right."""
    return torch.nn.utils.rnn.pad_sequence(list(rows.unbind()), batch_first=True)
