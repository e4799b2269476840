"""Teacher scoring: this project's two views in one forward against the straightforward way, one rollout after another.

    python -m benchmarks.teacher_scoring [--save FILE]

The straightforward way is transformers' own forward on K rollouts of one prompt: the vision tower and the prompt run
for every rollout. Both ways give the same scores (checked, 1e-4 nats). The model is a Qwen3-VL of random weights whose
head has about the share of the decoder's FLOPs that it has at 8B. Seconds are CPU seconds of one thread, least of some
repeats in turn, which other work on the machine disturbs little.
"""

import argparse
import sys
import time

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from benchmarks.measure import markdown_table, publish
from verl_vaopd.algorithm import token_log_probs
from verl_vaopd.model.families import family_of
from verl_vaopd.model.forward import install_forward
from verl_vaopd.model.packing import collate
from verl_vaopd.model.row import Row
from verl_vaopd.model.vision import ImageInputs

IMAGE_TOKEN = 4000
VOCAB_SIZE = 4096
TEXT_TOKENS = 32  # of a prompt; the rest is one image
GRIDS = {256: (14, 16), 512: (20, 24), 1024: (31, 32)}  # prompt tokens -> merged image grid


def make_model(hidden: int, layers: int) -> Qwen3VLForConditionalGeneration:
    torch.manual_seed(0)
    config = Qwen3VLConfig(
        text_config=dict(
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            num_key_value_heads=hidden // 128,
            head_dim=64,
            vocab_size=VOCAB_SIZE,
            rope_parameters=dict(
                rope_type="default", rope_theta=5e6, mrope_section=[12, 10, 10], mrope_interleaved=True
            ),
        ),
        vision_config=dict(
            depth=6,
            hidden_size=hidden // 2,
            intermediate_size=2 * hidden,
            num_heads=hidden // 128,
            patch_size=16,
            out_hidden_size=hidden,
            num_position_embeddings=2304,
            deepstack_visual_indexes=[1, 3, 5],
        ),
        image_token_id=IMAGE_TOKEN,
        video_token_id=IMAGE_TOKEN + 1,
        vision_start_token_id=IMAGE_TOKEN + 2,
        vision_end_token_id=IMAGE_TOKEN + 3,
    )
    return Qwen3VLForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()


def make_rollouts(prompt: int, response: int, siblings: int) -> tuple[list[torch.Tensor], list[ImageInputs]]:
    """Token ids of the rollouts of one prompt, and its image under both views."""
    h, w = GRIDS[prompt]
    grid = torch.tensor([[1, 2 * h, 2 * w]])
    views = [ImageInputs(torch.randn(4 * h * w, 3 * 2 * 16 * 16), grid) for _ in range(2)]
    text = torch.randint(0, IMAGE_TOKEN, (TEXT_TOKENS,))
    prompt_ids = torch.cat([text[:8], torch.full((h * w,), IMAGE_TOKEN), text[8:]])
    return [torch.cat([prompt_ids, torch.randint(0, IMAGE_TOKEN, (response,))]) for _ in range(siblings)], views


@torch.no_grad()
def straightforward(model, rollouts, views, response: int) -> list[torch.Tensor]:
    """[K, response] log-probabilities per view, by transformers' forward on a batch of K rollouts."""
    ids = torch.stack(rollouts)
    scores = []
    for view in views:
        model.model.rope_deltas = None  # kept by the model between forwards
        logits = model(
            input_ids=ids,
            pixel_values=view.pixel_values.repeat(len(rollouts), 1),
            image_grid_thw=view.image_grid_thw.repeat(len(rollouts), 1),
            mm_token_type_ids=(ids == IMAGE_TOKEN).int(),
            logits_to_keep=response + 1,
            use_cache=False,
        ).logits[:, :-1]
        scores.append(logits.log_softmax(-1).gather(2, ids[:, -response:, None]).squeeze(2))
    return scores


@torch.no_grad()
def shared(model, rollouts, views, response: int) -> list[torch.Tensor]:
    """The same by this project's forward, all views at once."""
    rows = [Row(ids, response, view) for view in views for ids in rollouts]
    batch = collate(rows, family_of(model.config), "cpu")
    scores = model(
        **batch.model_inputs, head_fn=lambda hidden, head: token_log_probs(hidden, head, batch.response_ids, VOCAB_SIZE)
    )
    return list(scores.reshape(len(views), len(rollouts), response))


def measure(reference, model, prompt: int, response: int, siblings: int, repeats: int) -> list:
    rollouts, views = make_rollouts(prompt, response, siblings)
    ways = [
        lambda: straightforward(reference, rollouts, views[:1], response),
        lambda: straightforward(reference, rollouts, views, response),
        lambda: shared(model, rollouts, views, response),
    ]
    results = [way() for way in ways]  # also the warm-up
    gap = max(float((a - b).abs().max()) for a, b in zip(results[1], results[2], strict=True))
    assert gap < 1e-4, f"the scores differ by {gap:.1e} nats"
    seconds = [[] for _ in ways]
    for _ in range(repeats):  # in turn, so that a slow moment of the machine hits all
        for way, times in zip(ways, seconds, strict=True):
            start = time.process_time()
            way()
            times.append(time.process_time() - start)
    one, two, ours = map(min, seconds)
    return [
        prompt,
        response,
        f"{one:.2f}",
        f"{two:.2f}",
        f"{ours:.2f}",
        f"{ours / one:.2f}",
        f"{ours / two:.2f}",
        f"{gap:.0e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[256, 512, 1024], choices=GRIDS, help="prompt tokens")
    parser.add_argument("--responses", type=int, nargs="+", default=[128, 256, 512], help="response tokens")
    parser.add_argument("--rollouts", type=int, default=4, help="K")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", help="write the page to this file")
    args = parser.parse_args()
    args.threads = 1
    torch.set_num_threads(args.threads)
    reference, model = (make_model(args.hidden, args.layers) for _ in range(2))
    install_forward(model, family_of(model.config))
    titles = [
        "P",
        "R",
        "one view, s",
        "two views, s",
        "ours, two views, s",
        "ours / one",
        "ours / two",
        "largest gap, nats",
    ]
    rows = []
    for prompt in args.prompts:
        for response in args.responses:
            rows.append(measure(reference, model, prompt, response, args.rollouts, args.repeats))
            print(*rows[-1], file=sys.stderr, flush=True)
    title = f"Teacher scoring: K = {args.rollouts}, hidden size {args.hidden}, {args.layers} layers"
    publish(title, args, [markdown_table(titles, rows, text_columns=0)])


if __name__ == "__main__":
    main()
