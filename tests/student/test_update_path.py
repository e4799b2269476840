"""The whole update path against a naive single-process implementation of Eq. 2-6.

Gradients of every student parameter, teacher scores and loss are compared for packed and padded rows, several
micro-batch sizes, dynamic batching, and 1 and 2 FSDP ranks over gloo with siblings dealt out to both.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from tests.random_models import VOCAB_SIZE, Prompts, make_checkpoint, plain_logits

ROOT = Path(__file__).parents[2]
LAYOUTS = {
    "1 row": {"micro_batch": 1},
    "3 rows": {"micro_batch": 3},
    "6 rows": {"micro_batch": 6},
    "by tokens": {"micro_batch": None},
}
CASES = {
    "vaopd": {"response_lengths": [7, 1, 4, 9], "settings": {}},
    "equal lengths": {"response_lengths": [5, 5, 5, 5], "settings": {}},
    "opd": {"response_lengths": [7, 1, 4, 9], "settings": {"method": "opd"}},
}


def naive(folder: Path, case: dict) -> dict:
    """Eq. 2-6 read off the page: one plain forward a sequence and view, full softmaxes, Python loops."""
    student, teacher = (
        Qwen3VLForConditionalGeneration.from_pretrained(folder / name, attn_implementation="sdpa")
        for name in ("student", "teacher")
    )
    prompts = Prompts(response_lengths=case["response_lengths"])
    rollouts: dict[str, list] = {}
    scores = []
    for uid, ids, length in prompts.rows:
        tokens = ids[-length:, None]
        with torch.no_grad():
            views = [
                plain_logits(teacher, ids, length, images.get(uid))[:, :VOCAB_SIZE].log_softmax(-1)
                for images in (prompts.original, prompts.degraded)
            ]
        logp = [view.gather(1, tokens).squeeze(1) for view in views]
        scores.append(logp)
        log_s = plain_logits(student, ids, length, prompts.original.get(uid))[:, :VOCAB_SIZE].log_softmax(-1)
        kl = (log_s.exp() * (log_s - views[0])).sum(-1)  # reverse: under the student's distribution
        rollouts.setdefault(uid, []).append(((logp[0] - logp[1]).clamp(min=0), kl))

    loss = 0.0
    for siblings in rollouts.values():
        means = torch.stack([va.mean() for va, _ in siblings])
        z = (means - means.mean()) / (means.std(unbiased=False) + 1e-6)
        weights = z.exp() / z.exp().sum()
        for weight, (va, kl) in zip(weights, siblings, strict=True):
            if case["settings"].get("method") == "opd":
                loss = loss + kl.mean() / len(siblings) / len(rollouts)
                continue
            count = -(-len(va) // 5)  # ceil(0.2 T)
            order = sorted(range(len(va)), key=lambda t: (-float(va[t]), t))
            high, low = order[:count], order[count:]
            group = 0.5 * kl[high].mean() + 0.5 * kl[low].mean() if low else kl[high].mean()
            loss = loss + weight * group / len(rollouts)
    loss.backward()
    gradients = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
    return {"loss": float(loss), "gradients": gradients, "scores": scores}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Per case: the naive numbers, and those of this package on 1 and on 2 ranks."""
    found = {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp("update_path")
        make_checkpoint(folder / "student", hidden=64, layers=2, head_rows=112, tied=True, seed=0)
        make_checkpoint(folder / "teacher", hidden=96, layers=3, head_rows=128, tied=False, seed=1)
        layouts = LAYOUTS if name == "vaopd" else {key: LAYOUTS[key] for key in ("by tokens", "3 rows")}
        (folder / "case.json").write_text(json.dumps({**case, "layouts": layouts}))
        found[name] = {"naive": naive(folder, case)}
        for world in (1, 2) if name == "vaopd" else (2,):
            command = [sys.executable, "-m", "tests.student.update_path"]
            ranks = [
                subprocess.Popen(
                    [*command, str(rank), str(world), str(folder)],
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for rank in range(world)
            ]
            logs = [rank.communicate(timeout=180)[0] for rank in ranks]
            assert all(rank.returncode == 0 for rank in ranks), "\n".join(log[-3000:] for log in logs)
            found[name][world] = torch.load(folder / f"results_{world}.pt", weights_only=False)
    return found


RUNS = [("vaopd", world, layout) for world in (1, 2) for layout in LAYOUTS] + [
    (case, 2, layout) for case in ("equal lengths", "opd") for layout in ("by tokens", "3 rows")
]


@pytest.mark.parametrize("case, world, layout", RUNS)
def test_gradients_equal_the_naive_ones(results, case, world, layout):
    expected, got = results[case]["naive"], results[case][world][layout]
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    # A parameter that only the naive run leaves without gradient would be one that FSDP fills with zeros.
    assert set(expected["gradients"]) <= set(got["gradients"])
    for name, gradient in expected["gradients"].items():
        error = (got["gradients"][name] - gradient).norm() / gradient.norm().clamp(min=1e-12)
        assert error < 1e-5, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("case, world, layout", RUNS)
def test_teacher_scores_equal_two_plain_forwards(results, case, world, layout):
    expected, got = results[case]["naive"]["scores"], results[case][world][layout]["scores"]
    assert len(got) == len(expected) == 12
    for (row, *views), plain in zip(got, expected, strict=True):
        for view, plain_view in zip(views, plain, strict=True):
            assert (view - plain_view).abs().max() < 1e-5, f"row {row}"


def test_text_only_rows_have_no_visual_advantage(results):
    uids = [uid for uid, _, _ in Prompts(response_lengths=[7, 1, 4, 9]).rows]
    for row, original, pixelated in results["vaopd"][2]["by tokens"]["scores"]:
        assert torch.equal(original, pixelated) == (uids[row] == "text")


def test_small_micro_batches_are_really_small(results):
    counts = {layout: results["vaopd"][1][layout]["micro_batches"] for layout in LAYOUTS}
    assert counts["1 row"] == 12 and counts["6 rows"] == 2 and counts["by tokens"] > 2
