"""What a sequence-to-sequence model writes: greedily, or by beam search over many sentences at a time.

Both take models with the interface of transformers' encoder-decoders, and give token ids without start and end.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def greedy(model: Any, source: Tensor, start: Tensor, longest: int, *, pad: int, eos: int) -> list[list[int]]:
    """The likeliest next token until each sequence has ended.

    Args:
        model: in evaluation mode.
        source: token ids of shape (sentences, longest source).
        start: the token each decoder starts from, of shape (sentences, 1).
        longest: most tokens to write, the end among them.
        pad: the token that fills up ``source``.
        eos: the token that ends a sentence.
    """
    mask = (source != pad).long()
    encoded = model.get_encoder()(input_ids=source, attention_mask=mask)
    last, cache = start, None
    columns: list[Tensor] = []
    ended = torch.zeros_like(start, dtype=torch.bool)
    while len(columns) < longest and not ended.all():
        output = model(
            encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=last, past_key_values=cache, use_cache=True
        )
        last, cache = output.logits[:, -1:].argmax(dim=-1), output.past_key_values
        columns.append(last)
        ended |= last == eos
    rows = torch.cat(columns, dim=1).tolist()
    return [list(itertools.takewhile(lambda token: token != eos, row)) for row in rows]


def beam_search(
    model: Any, source: Tensor, start: Tensor, limits: Tensor, beams: int, *, pad: int, eos: int
) -> list[list[int]]:
    """The best of the first ``beams`` sentences to end, by log-probability over length.

    As transformers' ``generate(num_beams=beams, early_stopping=True)``. It differs from fairseq's rule at lenpen 1 at
    the limit: fairseq has every sentence end there, here one that has not ended counts as it stands. In every step the
    best ``beams`` continuations are kept that do not end, beside those among the best ``beams`` that do. A sentence
    with ``beams`` endings, or at its limit, leaves the batch, so what is written for one does not depend on the others.
    Until the first token is written a sentence has one row, and its keys and values for attention to the source are
    then only copied.

    Args:
        model: in evaluation mode.
        source: token ids of shape (sentences, longest source).
        start: the token each decoder starts from, of shape (sentences, 1).
        limits: most tokens to write for each sentence, the end among them; of shape (sentences,).
        beams: how many beginnings are followed at a time.
        pad: the token that fills up ``source``.
        eos: the token that ends a sentence.
    """
    mask = (source != pad).long()
    hidden = model.get_encoder()(input_ids=source, attention_mask=mask)[0]
    written: list[list[int]] = [[] for _ in source]
    rows = torch.arange(len(source), device=source.device)  # the sentences still in the batch
    best = torch.full((len(rows),), -torch.inf, device=source.device)
    endings = torch.zeros_like(rows)
    scores = torch.zeros(len(rows), 1, device=source.device)  # of each beam; at first there is one
    begun = source.new_empty(len(rows), 1, 0)
    last, cache = start, None
    for step in range(1, int(limits.max()) + 1):
        output = model(
            encoder_outputs=(hidden,), attention_mask=mask, decoder_input_ids=last, past_key_values=cache,
            use_cache=True,
        )  # fmt: skip
        cache = output.past_key_values
        total, parent, token = _continuations(output.logits[:, -1].float(), scores, 2 * beams)

        ending = (token == eos) | (limits == step)[:, None]
        ended = ending[:, :beams] & total[:, :beams].isfinite()
        value, which = torch.where(ended, total[:, :beams] / step, -torch.inf).max(dim=1)
        for row in (value > best).nonzero()[:, 0].tolist():
            beam = which[row]
            tokens = [*begun[row, parent[row, beam]].tolist(), int(token[row, beam])]
            written[rows[row]] = tokens[:-1] if tokens[-1] == eos else tokens
        best = torch.maximum(best, value)
        endings += ended.sum(dim=1)

        staying = (endings < beams) & (limits > step)
        if not staying.any():
            break
        scores, order = torch.where(ending, -torch.inf, total)[staying].topk(beams)
        parent, token = parent[staying].gather(1, order), token[staying].gather(1, order)
        before = begun[staying].gather(1, parent[:, :, None].expand(-1, -1, step - 1))
        begun, last = torch.cat([before, token[:, :, None]], dim=2), token.view(-1, 1)
        chosen = (staying.nonzero() * (len(output.logits) // len(staying)) + parent).flatten()
        cache.self_attention_cache.reorder_cache(chosen)
        if step == 1 or not staying.all():  # else attention to the source finds what it needs where it was
            cache.cross_attention_cache.reorder_cache(chosen)
            hidden, mask = hidden[chosen], mask[chosen]
            rows, limits, best, endings = rows[staying], limits[staying], best[staying], endings[staying]
    return written


def _continuations(logits: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each sentence, best first: log-probability, beam and token, each (sentences, count).

    Args:
        logits: of shape (sentences x beams, vocabulary).
        scores: log-probabilities of the beams, of shape (sentences, beams).
        count: how many; where there are fewer, the rest have probability zero.
    """
    sentences, beams = scores.shape
    values, tokens = logits.topk(min(count, logits.shape[1]))  # of a beam no more can be among the best of all
    width = values.shape[1]
    values = values - logits.logsumexp(dim=1, keepdim=True) + scores.view(-1, 1)
    values, tokens = values.view(sentences, -1), tokens.view(sentences, -1)
    if values.shape[1] < count:
        lacking = (0, count - values.shape[1])
        values, tokens = F.pad(values, lacking, value=-torch.inf), F.pad(tokens, lacking)
    total, places = values.topk(count)
    return total, (places // width).clamp(max=beams - 1), tokens.gather(1, places)
