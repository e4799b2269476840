"""The paper's equations once more, in float64 and plain loops, and the random cases they are compared on."""

import math
import random

import torch


def visual_advantage(logp_original, logp_pixelated, mask):
    """Eq. 2 over nested lists [N][T]."""
    return [
        [max(a - b, 0.0) if on else 0.0 for a, b, on in zip(row_a, row_b, row_on, strict=True)]
        for row_a, row_b, row_on in zip(logp_original, logp_pixelated, mask, strict=True)
    ]


def mean_visual_advantage(va, mask):
    """Eq. 3, left."""
    means = []
    for row, row_on in zip(va, mask, strict=True):
        tokens = [a for a, on in zip(row, row_on, strict=True) if on]
        means.append(math.fsum(tokens) / len(tokens))
    return means


def rollout_weights(means, prompt_ids, temperature, eps):
    """Eq. 3-4, one rollout at a time."""
    weights = []
    for k, prompt in enumerate(prompt_ids):
        siblings = [means[j] for j in range(len(means)) if prompt_ids[j] == prompt]
        mu = math.fsum(siblings) / len(siblings)
        sigma = math.sqrt(math.fsum((a - mu) ** 2 for a in siblings) / len(siblings))
        z = [(a - mu) / (sigma + eps) for a in siblings]
        total = math.fsum(math.exp(x / temperature) for x in z)
        weights.append(math.exp((means[k] - mu) / (sigma + eps) / temperature) / total)
    return weights


def high_count(numerator, denominator, length):
    """ceil(numerator / denominator * length) in whole numbers."""
    return -(-numerator * length // denominator)


def token_weights(va, mask, weights, numerator, denominator, high_weight):
    """The factor of each KL_t in Eq. 5-6; the high fraction is numerator / denominator."""
    result = []
    for row, row_on, w in zip(va, mask, weights, strict=True):
        tokens = [t for t, on in enumerate(row_on) if on]
        ranked = sorted(tokens, key=lambda t: (-row[t], t))
        count = high_count(numerator, denominator, len(tokens))
        high, low = ranked[:count], ranked[count:]
        coefficients = [0.0] * len(row)
        for t in high:
            coefficients[t] = w * (high_weight if low else 1.0) / len(high)
        for t in low:
            coefficients[t] = w * (1 - high_weight) / len(low)
        result.append(coefficients)
    return result


def opd_token_weights(mask, prompt_ids):
    """Eq. 1, mean over siblings."""
    return [
        [on / (sum(row_on) * prompt_ids.count(prompt)) for on in row_on]
        for row_on, prompt in zip(mask, prompt_ids, strict=True)
    ]


def log_softmax(logits):
    top = max(logits)
    log_total = top + math.log(math.fsum(math.exp(z - top) for z in logits))
    return [z - log_total for z in logits]


def reverse_kl(student_logits, teacher_logits):
    """sum_v p_S (log p_S - log p_T) of one row."""
    log_p_student, log_p_teacher = log_softmax(student_logits), log_softmax(teacher_logits)
    return math.fsum(math.exp(a) * (a - b) for a, b in zip(log_p_student, log_p_teacher, strict=True))


def generalised_jsd(student_logits, teacher_logits, beta):
    """beta KL(p_T || m) + (1 - beta) KL(p_S || m) of one row, m = beta p_T + (1 - beta) p_S, 0 < beta < 1."""
    summands = []
    for a, b in zip(log_softmax(student_logits), log_softmax(teacher_logits), strict=True):
        log_m = math.log(beta * math.exp(b) + (1 - beta) * math.exp(a))
        summands += [beta * math.exp(b) * (b - log_m), (1 - beta) * math.exp(a) * (a - log_m)]
    return math.fsum(summands)


def entropy(logits):
    """-sum_v p log p of one row."""
    return -math.fsum(math.exp(a) * a for a in log_softmax(logits))


def random_case(seed):
    """Scores, mask and prompts: 1-5 prompts of 1-6 siblings, shuffled; gaps in the mask; ties; one-token responses."""
    rng = random.Random(seed)
    prompt_ids = [f"p{prompt}" for prompt in range(rng.randint(1, 5)) for _ in range(rng.randint(1, 6))]
    rng.shuffle(prompt_ids)
    columns = rng.randint(1, 24)
    mask = []
    for _ in prompt_ids:
        kind = rng.choice(["right padded", "gaps", "one token", "full"])
        if kind == "right padded":
            length = rng.randint(1, columns)
            row = [int(t < length) for t in range(columns)]
        elif kind == "gaps":
            row = [rng.randint(0, 1) for _ in range(columns)]
            row[rng.randrange(columns)] = 1
        else:
            row = [int(kind == "full")] * columns
            row[rng.randrange(columns)] = 1
        mask.append(row)
    # quarters are exact in float32 and tie often
    scores = [
        [[-rng.randint(0, 12) / 4 if rng.random() < 0.5 else -5 * rng.random() for _ in row] for row in mask]
        for _ in range(2)
    ]
    original, pixelated = (torch.tensor(x, dtype=torch.float32) for x in scores)
    return original, pixelated, torch.tensor(mask), prompt_ids
