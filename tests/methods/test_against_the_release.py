"""Loss and gradients against the reduction that the authors' release documents, written down anew.

Per rollout the mean positive gap of the teacher's log-probabilities under its two views; of the K gaps of a prompt the
population z-score, of these the softmax; per rollout half the mean KL of the ceil(0.2 T) tokens of the largest gap and
half the mean KL of the others; the mean over prompts. KL(student || teacher) over the vocabulary at temperature 1.
"""

import math

import pytest
import torch

from verl_vaopd.methods import Responses, Step, method_of
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig

K, LONGEST, WIDTH, VOCABULARY = 4, 11, 8, 23


def released(gaps, lengths, student, teacher, prompts):
    """Loss of rollouts in order of their prompts; student and teacher: logits [N, T, V], float64."""
    means = torch.stack([gap[:length].mean() for gap, length in zip(gaps, lengths, strict=True)]).view(prompts, K)
    z = (means - means.mean(1, keepdim=True)) / (means.std(1, correction=0, keepdim=True) + 1e-6)
    rollout_weights = torch.softmax(z, 1).flatten()
    log_p, log_q = student.log_softmax(-1), teacher.log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    total = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(lengths):
        order = sorted(range(length), key=lambda t, row=row: (-float(gaps[row, t]), t))
        high = math.ceil(0.2 * length)
        groups = [kl[row, order[:high]].mean(), *([kl[row, order[high:]].mean()] if high < length else [])]
        total = total + rollout_weights[row] * sum(groups) / len(groups)
    return total / prompts


@pytest.mark.parametrize("seed", range(20))
def test_loss_and_gradients_are_those_of_the_release(seed):
    draw = torch.Generator().manual_seed(seed)
    prompts = 1 + seed % 3
    rows = prompts * K
    lengths = torch.randint(1, LONGEST + 1, (rows,), generator=draw).tolist()
    mask = torch.arange(LONGEST) < torch.tensor(lengths)[:, None]
    original, degraded = (-3 * torch.rand(rows, LONGEST, generator=draw) for _ in range(2))
    hidden, teacher_hidden = (torch.randn(rows, LONGEST, WIDTH, generator=draw) for _ in range(2))
    head, teacher_head = (torch.randn(VOCABULARY + 3, WIDTH, generator=draw) for _ in range(2))  # 3 rows of padding

    gaps = (original - degraded).clamp(min=0).double()
    theirs = [each.double().requires_grad_() for each in (hidden, head)]
    expected = released(
        gaps,
        lengths,
        (theirs[0] @ theirs[1].T)[..., :VOCABULARY],
        (teacher_hidden.double() @ teacher_head.double().T)[..., :VOCABULARY],
        prompts,
    )
    expected.backward()

    method = method_of(VAOPDConfig(teacher=TeacherConfig(path="x"), output_dir="x"))
    columns = {"logp_original": original, "logp_pixelated": degraded}
    uids = [f"prompt {row // K}" for row in range(rows)]
    weights = method.weigh(Step(columns, mask, uids, None)).student
    ours = [each.clone().requires_grad_() for each in (hidden, head)]
    outcome = method.objective(None, 0.7)(
        Responses(
            hidden=ours[0][mask],
            head=ours[1],
            token_ids=torch.zeros(int(mask.sum()), dtype=torch.long),
            columns={
                "token_weights": weights["token_weights"][mask],
                "high_va": weights["high_va"][mask],
                "teacher_hidden": teacher_hidden[mask],
            },
            seen_twice=torch.zeros(int(mask.sum()), dtype=torch.bool),
            scale=1.0,
            vocab_size=VOCABULARY,
            teacher_head=teacher_head,
        )
    )
    outcome.loss.backward()
    assert outcome.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad - other.grad).abs().max() <= 1e-5 * other.grad.abs().max()
