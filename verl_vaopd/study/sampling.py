"""Answers of a plain copy of the student, sampled together: all prompts of a run have one length, so nothing is padded.

Legend: P prompts, K answers to each, T tokens.
"""

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, DynamicCache

from verl_vaopd.tiny.figure_batch import VISUAL_TOKENS, figure_positions, read_aloud, see
from verl_vaopd.tiny.tokenizer import SPECIAL_TOKENS


class Sampler:
    """``model``: transformers' own, whose weights follow the engine's."""

    def __init__(self, path, tokenizer):
        self.model = AutoModelForImageTextToText.from_pretrained(path, attn_implementation="sdpa").eval()
        self.end, self.pad, self.ids = tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)
        special = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS]
        self.banned = [token for token in special if token != self.end]

    @torch.no_grad()
    def take(self, module) -> None:
        """The weights of an engine's module."""
        own = dict(self.model.named_parameters())
        for name, parameter in module.named_parameters():
            own[name].copy_(parameter.full_tensor())

    @torch.no_grad()
    def answers(self, prompt: Tensor, patches: Tensor, count: int, most: int, generator=None) -> list[Tensor]:
        """Answers to one prompt [T] about P figures.

        Args:
            patches: [P, 64, 192] uint8. count: K. most: tokens of an answer.
            generator: samples at temperature 1; None: the likeliest token.
        Returns:
            P x K tensors of ids, siblings together, each with its end of turn if it came to one.
        """
        image_start = prompt.tolist().index(self.model.config.image_token_id)
        language, embed = self.model.model.language_model, self.model.get_input_embeddings()
        tokens, deepstack = see(self.model.model.visual, patches)
        ids = prompt.expand(len(patches), -1)
        embedded = embed(ids).clone()
        embedded[:, image_start : image_start + VISUAL_TOKENS] = tokens
        is_image = ids == self.model.config.image_token_id
        positions = figure_positions(image_start, len(prompt)).expand(3, len(patches), -1)
        cache = DynamicCache()
        out = language(
            inputs_embeds=embedded,
            position_ids=positions,
            visual_pos_masks=is_image,
            deepstack_visual_embeds=[feature.flatten(0, 1) for feature in deepstack],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1:]
        cache.batch_repeat_interleave(count)
        out = out.repeat_interleave(count, dim=0)
        place, rows = int(positions.max()) + 1, len(out)
        done, said = torch.zeros(rows, dtype=torch.bool), []
        for step in range(most):
            logits = self.model.lm_head(out[:, -1])[:, : self.ids]
            logits[:, self.banned] = -torch.inf
            chosen = logits.argmax(-1)
            if generator is not None:
                chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
            said.append(chosen.masked_fill(done, self.pad))
            done |= chosen == self.end
            if done.all() or step + 1 == most:
                break
            at = torch.full((3, rows, 1), place + step)
            out = language(
                inputs_embeds=embed(said[-1][:, None]), position_ids=at, past_key_values=cache, use_cache=True
            )
            out = out.last_hidden_state
        answers = torch.stack(said, dim=1)
        ends = [(row == self.end).nonzero().flatten().tolist() for row in answers]
        return [row[: end[0] + 1] if end else row for row, end in zip(answers, ends, strict=True)]

    @torch.no_grad()
    def log_probs(self, ids: Tensor, patches: Tensor, image_start: int, where: Tensor) -> Tensor:
        """Of the tokens ``where`` [B, T] of conversations ``ids`` [B, T]: [tokens], nats, row by row."""
        positions = figure_positions(image_start, ids.shape[1])
        hidden = read_aloud(self.model, patches, ids, image_start, positions)
        wanted = where[:, 1:]
        logits = self.model.lm_head(hidden[:, :-1][wanted])[:, : self.ids]
        return logits.log_softmax(-1).gather(1, ids[:, 1:][wanted][:, None]).squeeze(1)
