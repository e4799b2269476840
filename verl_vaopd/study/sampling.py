"""Answers of a plain copy of the student, sampled together: all prompts of a run have one length, so nothing is padded.

Legend: P prompts, K answers to each, T tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForImageTextToText, DynamicCache

from verl_vaopd.student.adapters import merged_weights
from verl_vaopd.tiny.figure_batch import VISUAL_TOKENS, figure_positions, read_aloud, see
from verl_vaopd.tiny.tokenizer import SPECIAL_TOKENS


class Sampler:
    """``model``: transformers' own, whose weights follow the engine's."""

    def __init__(self, path, tokenizer):
        kept = dict(dtype=torch.float32, attn_implementation="sdpa")  # whatever config.json says
        self.model = AutoModelForImageTextToText.from_pretrained(path, **kept).eval()
        self.end, self.pad, self.ids = tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)
        special = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS]
        self.banned = [token for token in special if token != self.end]

    @torch.no_grad()
    def take(self, module) -> None:
        """The weights of an engine's module, adapters merged."""
        own = self.model.state_dict()
        for name, weight in merged_weights(module, "cpu"):
            own[name].copy_(weight)

    @torch.no_grad()
    def answers(self, prompt: Tensor, patches: Tensor, count: int, most: int, generator=None) -> list[Tensor]:
        """Answers to one prompt [T] about P figures.

        Args:
            patches: [P, 64, 192] uint8. count: K. most: tokens of an answer.
            generator: samples at temperature 1; None: the likeliest token.
        Returns:
            P x K tensors of ids, siblings together, each with its end of turn if it came to one.
        """
        hidden, decoder = self.read(prompt, patches, count, most)
        done, said = torch.zeros(len(hidden), dtype=torch.bool), []
        while len(said) < most and not done.all():
            if said:
                hidden = decoder.step(said[-1])
            logits = self.model.lm_head(hidden)[:, : self.ids]
            logits[:, self.banned] = -torch.inf
            chosen = logits.argmax(-1)
            if generator is not None:
                chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
            said.append(chosen.masked_fill(done, self.pad))
            done |= chosen == self.end
        answers = torch.stack(said, dim=1)
        ends = [(row == self.end).nonzero().flatten().tolist() for row in answers]
        return [row[: end[0] + 1] if end else row for row, end in zip(answers, ends, strict=True)]

    def read(self, prompt: Tensor, patches: Tensor, count: int, most: int) -> tuple[Tensor, "Decoder"]:
        """The prompt with each figure, once for its K answers: last hidden states [P x K, D], and what goes on."""
        image_start = prompt.tolist().index(self.model.config.image_token_id)
        language = self.model.model.language_model
        tokens, deepstack = see(self.model.model.visual, patches)
        ids = prompt.expand(len(patches), -1)
        embedded = self.model.get_input_embeddings()(ids).clone()
        embedded[:, image_start : image_start + VISUAL_TOKENS] = tokens
        positions = figure_positions(image_start, len(prompt)).expand(3, len(patches), -1)
        cache = DynamicCache()
        hidden = language(
            inputs_embeds=embedded,
            position_ids=positions,
            visual_pos_masks=ids == self.model.config.image_token_id,
            deepstack_visual_embeds=[feature.flatten(0, 1) for feature in deepstack],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        decoder = Decoder(language, cache, count, most, place=int(positions.max()) + 1)
        return hidden.repeat_interleave(count, dim=0), decoder

    @torch.no_grad()
    def log_probs(self, ids: Tensor, patches: Tensor, image_start: int, where: Tensor) -> Tensor:
        """Of the tokens ``where`` [B, T] of conversations ``ids`` [B, T]: [tokens], nats, row by row."""
        positions = figure_positions(image_start, ids.shape[1])
        hidden = read_aloud(self.model, patches, ids, image_start, positions)
        wanted = where[:, 1:]
        logits = self.model.lm_head(hidden[:, :-1][wanted])[:, : self.ids]
        return logits.log_softmax(-1).gather(1, ids[:, 1:][wanted][:, None]).squeeze(1)


class Decoder:
    """Token by token after a prompt, on the layers' own weights: transformers' forward takes several times as long for
    sequences and models this small. Every row stands at the same place."""

    def __init__(self, language, cache: DynamicCache, count: int, most: int, place: int):
        self.language, self.length = language, cache.get_seq_length()
        positions = torch.arange(place, place + most).expand(3, 1, -1)
        cos, sin = language.rotary_emb(language.embed_tokens.weight, positions)  # [1, most, head width]
        self.rotary = torch.stack([cos[0], sin[0]], dim=1)
        self.first = self.length
        self.kept = []
        for layer in cache.layers:
            rows = [states.repeat_interleave(count, dim=0) for states in (layer.keys, layer.values)]
            self.kept.append([torch.cat([row, row.new_empty(*row.shape[:2], most, row.shape[3])], 2) for row in rows])

    def step(self, ids: Tensor) -> Tensor:
        """Last hidden states [B, D] after one more token [B]."""
        x, here = self.language.embed_tokens(ids), self.length
        cos, sin = self.rotary[here - self.first]
        for layer, (keys, values) in zip(self.language.layers, self.kept, strict=True):
            attention, h = layer.self_attn, layer.input_layernorm(x)
            shape = (len(ids), -1, attention.head_dim)
            query = _turned(attention.q_norm(attention.q_proj(h).view(shape)), cos, sin)
            keys[:, :, here] = _turned(attention.k_norm(attention.k_proj(h).view(shape)), cos, sin)
            values[:, :, here] = attention.v_proj(h).view(shape)
            seen = keys[:, :, : here + 1], values[:, :, : here + 1]
            mixed = F.scaled_dot_product_attention(query[:, :, None], *seen, enable_gqa=True)
            x = x + attention.o_proj(mixed.flatten(1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self.length += 1
        return self.language.norm(x)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
