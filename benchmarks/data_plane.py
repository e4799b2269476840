"""Bytes and seconds between the roles of one step at the size of 8B to 2B, through a real TransferQueue.

    python -m benchmarks.data_plane [--save FILE]

Random tensors of the shapes that a step moves: images once per prompt against once per rollout, hidden states against
logits. Bytes are those that crossed the loopback interface, which the kernel counts: let nothing else use it. Logits
are moved for one prompt only and multiplied by the number of prompts.
"""

import argparse
import os
import sys
import time

import torch

from benchmarks.measure import markdown_table, publish

PATCH_DIM, VOCABULARY = 3 * 2 * 16 * 16, 151_936


def loopback_bytes() -> int:
    with open("/proc/net/dev") as f:
        return next(int(line.split()[1]) for line in f if line.strip().startswith("lo:"))


class Table:
    """Moves fields into the queue and out again; one row each."""

    def __init__(self, prompts: int):
        self.rows, self.prompts = [], prompts

    def move(self, what: str, how: str, fields: dict[str, list[torch.Tensor]], readers: dict[str, list[str]], scale=1):
        """``readers``: who reads -> which fields. ``scale``: how often the step does what is done here once."""
        import transfer_queue as tq
        from verl.utils import tensordict_utils as tu

        columns = {name: torch.nested.as_nested_tensor(rows, layout=torch.jagged) for name, rows in fields.items()}
        keys = [f"row{index}" for index in range(len(next(iter(fields.values()))))]
        moved, seconds = loopback_bytes(), time.perf_counter()
        tq.kv_batch_put(keys=keys, partition_id="benchmark", fields=tu.get_tensordict(columns))
        for names in readers.values():
            tq.kv_batch_get(keys=keys, partition_id="benchmark", select_fields=names)
        seconds, moved = time.perf_counter() - seconds, loopback_bytes() - moved
        tq.kv_clear(keys=keys, partition_id="benchmark")
        tensors = sum(tensor.nbytes for rows in fields.values() for tensor in rows) * scale
        self.rows.append(
            [
                what,
                how,
                ", ".join(readers),
                f"{tensors / 1e6:.1f}",
                f"{moved * scale / 1e6:.1f}",
                f"{seconds * scale:.2f}",
            ]
        )
        print(*self.rows[-1], sep=" | ", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--rollouts", type=int, default=4, help="K")
    parser.add_argument("--image-tokens", type=int, default=288, help="per prompt")
    parser.add_argument("--prompt", type=int, default=360, help="prompt tokens")
    parser.add_argument("--response", type=int, default=1200, help="response tokens")
    parser.add_argument("--teacher-width", type=int, default=4096)
    parser.add_argument("--save", help="write the page to this file")
    args = parser.parse_args()
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # all daemons on loopback
    import ray
    import transfer_queue as tq
    from omegaconf import OmegaConf

    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    count, response = args.prompts * args.rollouts, args.response
    # One tensor in all rows: what is sent is the same, and this process holds it once.
    view = torch.randn(4 * args.image_tokens, PATCH_DIM)
    views = {"pixel_values": view, "pixel_values_degraded": view}
    readers = {"teacher": list(views), "student": ["pixel_values"]}
    table = Table(args.prompts)
    for rows, how in ((args.prompts, "once per prompt (ours)"), (count, "once per rollout")):
        table.move("images, both views", how, {name: [x] * rows for name, x in views.items()}, readers)

    hidden = torch.randn(response, args.teacher_width).bfloat16()
    table.rows.append(["teacher's distribution", "hidden states, colocated (ours, default)", "", "0.0", "0.0", "0.00"])
    fields = {"teacher_hidden": [hidden] * count}
    table.move("teacher's distribution", "hidden states, separate (ours)", fields, {"student": list(fields)})
    fields = {"logits": [torch.randn(response, VOCABULARY).bfloat16()] * args.rollouts}
    table.move("teacher's distribution", "logits", fields, {"student": list(fields)}, scale=args.prompts)

    scores = {name: [torch.randn(response)] * count for name in ("logp_original", "logp_pixelated")}
    table.move("teacher's scores", "ours", scores, {"driver": list(scores)})
    weights = {name: [torch.randn(response)] * count for name in ("token_weights", "high_va")}
    table.move("coefficients", "ours", weights, {"student": list(weights)})
    ids = {"input_ids": [torch.zeros(args.prompt + response, dtype=torch.long)] * count}
    ids["response_mask"] = [torch.zeros(response, dtype=torch.long)] * count
    table.move("rollouts", "ours", ids, {"teacher": list(ids), "student": list(ids)})
    tq.close()
    titles = ["what", "how", "read by", "tensors, MB", "moved in and out, MB", "seconds"]
    publish("Bytes between the roles of one step", args, [markdown_table(titles, table.rows, text_columns=3)])


if __name__ == "__main__":
    main()
