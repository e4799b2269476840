"""Rollouts as an engine takes them, put together without TransferQueue."""

from collections.abc import Iterable, Sequence

import torch
import verl.utils.tensordict_utils as tu
from tensordict import TensorDict


def nested(rows: Iterable[torch.Tensor]) -> torch.Tensor:
    """Rows of any lengths as one jagged tensor."""
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def batch_of(rows: Sequence[tuple[str, torch.Tensor, int]], columns: dict, budget: int) -> TensorDict:
    """The rows (uid, input ids, response length) and, per response token, the columns; ``budget``: tokens of a
    micro-batch."""
    data = tu.get_tensordict(
        {
            "uid": [uid for uid, _, _ in rows],
            "input_ids": nested(ids for _, ids, _ in rows),
            "response_mask": nested(torch.ones(length, dtype=torch.long) for _, _, length in rows),
            **{name: nested(values) for name, values in columns.items()},
        }
    )
    tu.assign_non_tensor(data, max_token_len_per_gpu=budget, use_dynamic_bsz=True)
    return data
