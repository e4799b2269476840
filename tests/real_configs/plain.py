"""Plain transformers on one model of real widths, one forward a sequence and view, and this package's forward on the
very same module: errors of scores and gradients. What a rank of the engine is held against goes to a file.

Run by test_real_configs.py: python -m tests.real_configs.plain FOLDER SIZE DTYPE [TEACHER]
"""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import Qwen3VLForConditionalGeneration

from tests.real_configs.gradients import GradientErrors
from tests.real_configs.models import IDS, RealPrompts
from tests.real_configs.products import sum_in_float32
from verl_vaopd.algorithm import fused_linear_reverse_kl, token_log_probs
from verl_vaopd.model.families import family_of
from verl_vaopd.model.forward import install_forward
from verl_vaopd.model.packing import collate
from verl_vaopd.model.row import Row

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def load(folder: Path, size: str, dtype: str):
    path = folder / size
    return Qwen3VLForConditionalGeneration.from_pretrained(path, attn_implementation="sdpa", dtype=DTYPES[dtype])


def hidden_and_logits(model, ids, length: int, images):
    """Of the positions that predict the response: [length, D] and [length, ids of the tokenizer] float32."""
    vision = {} if images is None else images.tensors
    model.model.rope_deltas = None  # kept by the model between forwards
    hidden = model.model(
        input_ids=ids[None],
        attention_mask=torch.ones_like(ids)[None],
        mm_token_type_ids=(ids == model.config.image_token_id).int()[None],
        **vision,
    ).last_hidden_state[0, -length - 1 : -1]
    return hidden, (hidden @ model.lm_head.weight[:IDS].t()).float()


def teacher(folder: Path, size: str, dtype: str) -> dict:
    model, prompts = load(folder, size, dtype).eval().requires_grad_(False), RealPrompts()
    scores, hidden = {"original": [], "degraded": []}, []
    for uid, ids, length in prompts.rows:
        for view, images in (("original", prompts.original), ("degraded", prompts.degraded)):
            last, logits = hidden_and_logits(model, ids, length, images.get(uid))
            scores[view].append(logits.log_softmax(-1).gather(1, ids[-length:, None]).squeeze(1))
            if view == "original":
                hidden.append(last)
    scores = {view: torch.cat(rows) for view, rows in scores.items()}
    install_forward(model, family_of(model.config))
    family, error = family_of(model.config), 0.0
    for view in ("original", "degraded"):
        images = getattr(prompts, view)
        rows = [Row(ids, length, images.get(uid)) for uid, ids, length in prompts.rows]
        batch = collate(rows, family, "cpu")
        got = model(**batch.model_inputs, head_fn=lambda h, w, b=batch: token_log_probs(h, w, b.response_ids, IDS))
        error = max(error, float((got - scores[view]).abs().max()))
    save_file({**scores, "hidden": torch.cat(hidden)}, folder / f"{size}_scores.safetensors")
    return {"score_error": error}


def student(folder: Path, size: str, dtype: str, of: str) -> dict:
    """Mean over prompts, rollouts and tokens of KL(student || teacher): Standard OPD."""
    model, prompts = load(folder, size, dtype).train(), RealPrompts()
    with safe_open(folder / of / "model.safetensors", "pt") as f:
        head = "lm_head.weight" if "lm_head.weight" in f.keys() else "model.language_model.embed_tokens.weight"
        teacher_head = f.get_tensor(head).to(DTYPES[dtype])
    with safe_open(folder / f"{of}_scores.safetensors", "pt") as f:
        teacher_hidden = f.get_tensor("hidden")
    loss, start = 0.0, 0
    for uid, ids, length in prompts.rows:
        _, logits = hidden_and_logits(model, ids, length, prompts.original.get(uid))
        log_s = logits.log_softmax(-1)
        log_t = (teacher_hidden[start : start + length] @ teacher_head[:IDS].t()).float().log_softmax(-1)
        one = (log_s.exp() * (log_s - log_t)).sum(-1).mean() / len(prompts.rows)
        one.backward()
        loss, start = loss + float(one.detach()), start + length
    gradients = folder / f"{size}_gradients.safetensors"
    save_file({name: p.grad for name, p in model.named_parameters()}, gradients, metadata={"loss": repr(loss)})
    model.zero_grad()
    install_forward(model, family_of(model.config))
    rows = [Row(ids, length, prompts.original.get(uid)) for uid, ids, length in prompts.rows]
    batch = collate(rows, family_of(model.config), "cpu")
    weights = torch.cat([torch.full((n,), 1 / n / len(rows)) for n in batch.response_lengths])

    def objective(hidden, own_head):
        return fused_linear_reverse_kl(hidden, own_head, teacher_hidden, teacher_head, weights, IDS)[0]

    got = model(**batch.model_inputs, head_fn=objective)
    got.backward()
    errors = GradientErrors(gradients)
    for name, parameter in model.named_parameters():
        errors.add(name, parameter.grad)
    return {"loss": loss, "loss_error": abs(float(got.detach()) - loss), **errors.found()}


def main(folder: Path, size: str, dtype: str, of: str | None) -> None:
    torch.set_num_threads(2)
    sum_in_float32()
    result = student(folder, size, dtype, of) if of else teacher(folder, size, dtype)
    torch.save(result, folder / f"plain_{'student' if of else 'teacher'}_{size}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else None)
