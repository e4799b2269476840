"""What the update path is held against: the equations read off the page, on plain transformers."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from tests.random_models import VOCAB_SIZE, Prompts, load, plain_logits
from tests.student.update_path_settings import REWARDS, TEMPERATURE, adapter_values


def with_adapters(folder: Path, case: dict):
    """The student as PEFT makes it, on plain transformers, adapters filled as those under test are."""
    lora = case["lora"]
    student = load(folder / case.get("student", "student"))
    settings = {name: lora.get(name) for name in ("lora_alpha", "target_modules", "exclude_modules")}
    student = get_peft_model(student, LoraConfig(r=lora["lora_rank"], **settings)).get_base_model()
    with torch.no_grad():
        for parameter, values in adapter_values(student.named_parameters()):
            parameter.copy_(values)
    return student


def naive(folder: Path, case: dict, student=None, only=None) -> dict:
    """Eq. 2-6 read off the page: one plain forward a sequence and view, full softmaxes, Python loops.

    For ``offpolicy_kd`` the KL the other way round, for ``gkd`` the divergence to the mixture; for ``grpo``,
    ``grpo_va`` and ``papo`` :func:`naive_policy`, which a reward adds to the others.
    """
    method, reward = case["settings"].get("method"), case["settings"].get("reward_weight", 0.0)
    gkd = {"token_weights": "uniform", **case["settings"].get("gkd", {})}
    uniform = method in ("opd", "offpolicy_kd") or (method == "gkd" and gkd["token_weights"] == "uniform")
    models = case.get("models", "")
    student = student or load(folder / f"{models}student")
    teacher = load(folder / f"{models}{case.get('teacher', 'teacher')}")
    prompts = Prompts(response_lengths=case["response_lengths"], family=case.get("family", "qwen3_vl"))
    rollouts: dict[str, list] = {}
    scores = []
    for uid, ids, length in prompts.rows:
        if only not in (None, uid):
            continue
        tokens = ids[-length:, None]
        with torch.no_grad():
            views = [
                plain_logits(teacher, ids, length, images.get(uid))[:, :VOCAB_SIZE].log_softmax(-1)
                for images in (prompts.original, prompts.degraded)
            ]
        logp = [view.gather(1, tokens).squeeze(1) for view in views]
        va = (logp[0] - logp[1]).clamp(min=0)
        if case["settings"].get("score") == "distribution":
            va = (views[0].exp() * (views[0] - views[1])).sum(-1)  # KL(p_T(. | v) || p_T(. | v~))
            logp = [va, logp[0] - logp[1]]
        scores.append(logp)
        log_s = plain_logits(student, ids, length, prompts.original.get(uid))[:, :VOCAB_SIZE].log_softmax(-1)
        kl = (log_s.exp() * (log_s - views[0])).sum(-1)  # reverse: under the student's distribution
        if method == "offpolicy_kd":
            kl = (views[0].exp() * (views[0] - log_s)).sum(-1)  # forward: under the teacher's
        if method == "gkd":
            beta = gkd["beta"]
            log_m = (beta * views[0].exp() + (1 - beta) * log_s.exp()).log()
            to_teacher = (views[0].exp() * (views[0] - log_m)).sum(-1)
            kl = beta * to_teacher + (1 - beta) * (log_s.exp() * (log_s - log_m)).sum(-1)
        rollouts.setdefault(uid, []).append((va, kl))

    loss = torch.zeros(())
    for siblings in rollouts.values():
        means = torch.stack([va.mean() for va, _ in siblings])
        z = (means - means.mean()) / (means.std(unbiased=False) + 1e-6)
        weights = z.exp() / z.exp().sum()
        for weight, (va, kl) in zip(weights, siblings, strict=True):
            if uniform:
                loss = loss + kl.mean() / len(siblings) / len(rollouts)
                continue
            count = -(-len(va) // 5)  # ceil(0.2 T)
            order = sorted(range(len(va)), key=lambda t: (-float(va[t]), t))
            if method == "vaopd_mass":  # as many as it takes to carry the share
                share = case["settings"]["mass"]["share"]
                count = next((n for n in range(len(va)) if va[order[:n]].sum() >= share * va.sum()), len(va))
            high, low = order[:count], order[count:]
            group = 0.5 * kl[high].mean() + 0.5 * kl[low].mean() if high and low else kl.mean()
            loss = loss + weight * group / len(rollouts)
    if method in ("grpo", "grpo_va", "papo"):
        gains = [(original - degraded).clamp(min=0) for original, degraded in scores]
        loss = naive_policy(student, prompts, papo=method == "papo", gains=gains if method == "grpo_va" else None)
    elif reward:
        loss = loss + reward * naive_policy(student, prompts, papo=False)
    loss.backward()
    gradients = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
    return {"loss": float(loss.detach()), "gradients": gradients, "scores": scores}


def naive_policy(student, prompts: Prompts, papo: bool, gains: list | None = None) -> torch.Tensor:
    """GRPO on-policy, mean over all tokens; PAPO's terms where a row has an image, and with it a masked view.

    gains: VA of each row's tokens, of which the top fifth then has half of the row's weight.
    """
    tokens = sum(length for _, _, length in prompts.rows)
    loss = torch.zeros(())
    for row, ((uid, ids, length), reward) in enumerate(zip(prompts.rows, REWARDS, strict=True)):
        group = torch.tensor([r for (other, *_), r in zip(prompts.rows, REWARDS, strict=True) if other == uid])
        advantage = (reward - group.mean()) / (group.std() + 1e-6)  # verl divides by the sample's deviation

        def log_probs(images, ids=ids, length=length):
            logits = plain_logits(student, ids, length, images)[:, :VOCAB_SIZE] / TEMPERATURE
            return logits.log_softmax(-1).gather(1, ids[-length:, None]).squeeze(1)

        log_p = log_probs(prompts.original.get(uid))
        within = torch.ones(length)
        count = -(-length // 5)
        if gains is not None and count < length:
            order = sorted(range(length), key=lambda t, row=row: (-float(gains[row][t]), t))
            within[order[:count]] = 0.5 * length / count
            within[order[count:]] = 0.5 * length / (length - count)
        loss = loss - (within * advantage * (log_p - log_p.detach()).exp()).sum() / tokens
        if papo and uid in prompts.degraded:
            masked = log_probs(prompts.degraded[uid])
            r = (masked - log_p).exp()
            kl = (r - r.log() - 1).clamp(max=10)
            loss = loss + (-0.01 * kl + 0.03 * -log_p + 0.03 * -masked).sum() / tokens
    return loss
