"""fairseq's own RoBERTa and mBART with the weights of ours, behind the forward that tasks call.

fairseq 0.12.2, its last release, needs help on Python 3.11: this is the one module that imports it, and gives it that.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from smcbench import convert
from smcbench.errors import InvalidInput, UsageError
from smcbench.naming import EMBEDDING, HEAD, SEGMENT

INSTALL = "pip install 'smcbench[fairseq]', then: pip install --no-deps fairseq==0.12.2"
_FAST = tuple(f"{part}_{kind}" for part in ("in_proj", "out_proj", "fc1", "fc2") for kind in ("weight", "bias"))


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Let fairseq be imported inside.

    It has dataclasses as defaults of dataclasses, which Python takes for mutable since 3.11 if they have no hash, and
    sets up logging for the whole process. Both are as before afterwards.

    Raises:
        UsageError: it is not installed, or something that it needs is not.
    """
    original, root = dataclasses.dataclass, logging.getLogger()
    level, handlers, disabled = root.level, list(root.handlers), root.manager.disable

    def hashable(cls: Any = None, /, **options: Any) -> Any:
        def made(cls: Any) -> Any:
            made = original(cls, **options)
            if made.__hash__ is None and cls.__module__.partition(".")[0] in ("fairseq", "hydra", "omegaconf"):
                made.__hash__ = object.__hash__
            return made

        return made if cls is None else made(cls)

    dataclasses.dataclass = hashable
    logging.disable(logging.INFO)
    try:
        yield
    except ImportError as error:
        raise UsageError(f"fairseq cannot be imported ({error}); install it with: {INSTALL}") from None
    finally:
        dataclasses.dataclass = original
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers


def build(conversion: convert.Conversion) -> nn.Module:
    """fairseq's ``RobertaModel`` or ``BARTModel`` with these weights, all loaded by its own ``load_state_dict``."""
    with importable():
        from fairseq.data import Dictionary
        from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

    args = argparse.Namespace(**conversion.options)
    ARCH_CONFIG_REGISTRY[args.arch](args)
    state, words = convert.fairseq_state(conversion), Dictionary()
    for token in range(len(words), len(state[EMBEDDING[conversion.architecture]])):
        words.add_symbol(f"token {token}")
    task = SimpleNamespace(source_dictionary=words, target_dictionary=words)
    model: nn.Module = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)
    model.load_state_dict(state, strict=True)
    return without_copies(model)


def without_copies(model: nn.Module) -> nn.Module:
    """The model without the second copy of every encoder layer that 0.12.2 registers as parameters for a fast path.

    They would be counted, and trained beside the weights that they are copies of.
    """
    layers: Iterable[Any] = model.modules()
    for layer in layers:
        if hasattr(layer, "can_use_fastpath"):
            layer.can_use_fastpath = False
            for name in _FAST:
                delattr(layer, name)
    return model


def twin(model: Any) -> nn.Module:
    """A RoBERTa or mBART of transformers as fairseq's own, for ``task.evaluate``; the same weights, bit for bit.

    Raises:
        InvalidInput: it is another model.
        UsageError: fairseq is not installed.
    """
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    segment = tensors.pop(SEGMENT, torch.zeros(1, 1))
    config = getattr(model, "config", None)
    if config is None:
        raise InvalidInput(f"{type(model).__name__}: fairseq has RoBERTa and mBART, but not this model")
    conversion = convert.to_fairseq(convert.Source(type(model).__name__, tensors, config.to_dict()))
    network, device = build(conversion).to(model.device), model.device
    if conversion.architecture == "mbart":
        return _MBart(network, convert.exchange(config.vocab_size, config.pad_token_id).to(device))
    return _Roberta(network, segment)


class _Roberta(nn.Module):
    """The segment embedding, which fairseq's RoBERTa lacks, comes in with the embeddings of the tokens."""

    segment: Tensor

    def __init__(self, network: Any, segment: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("segment", segment.clone())

    @property
    def lm_head(self) -> Any:
        return self.network.encoder.lm_head

    def roberta(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        """The encoder alone."""
        encoder = self.network.encoder
        embedded = encoder.sentence_encoder.embed_tokens(input_ids) + self.segment
        return SimpleNamespace(last_hidden_state=encoder.extract_features(input_ids, token_embeddings=embedded)[0])

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        """Logits of the classes, or a score of each choice for tokens of shape (examples, choices, longest)."""
        features = self.roberta(input_ids.flatten(0, -2)).last_hidden_state
        logits = self.network.classification_heads[HEAD](features)
        return SimpleNamespace(logits=logits.view(input_ids.shape[:2]) if input_ids.ndim == 3 else logits)


class _MBart(nn.Module):
    """Tokens are renumbered on their way in and out, so that fairseq's padding token stands for that of the task."""

    places: Tensor

    def __init__(self, network: Any, places: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("places", places)
        network.decoder.padding_idx = -1  # as in transformers, the decoder attends to all that it has written

    def get_encoder(self) -> Any:
        """The encoder alone; gives a tuple of one, hidden states of shape (examples, longest, width)."""
        return lambda input_ids, **_: (self.network.encoder(self.places[input_ids])["encoder_out"][0].transpose(0, 1),)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        attention_mask: Tensor,
        decoder_input_ids: Tensor,
        encoder_outputs: tuple[Tensor] | None = None,
        past_key_values: _Written | None = None,
        use_cache: bool = False,
    ) -> SimpleNamespace:
        """Logits for all tokens of the decoder; with ``use_cache`` for the last one, and what to go on from."""
        (hidden,) = encoder_outputs or self.get_encoder()(input_ids)
        encoded = {"encoder_out": [hidden.transpose(0, 1)], "encoder_padding_mask": [attention_mask == 0]}
        tokens, written = self.places[decoder_input_ids], None
        if use_cache:
            written = past_key_values or _Written(tokens[:, :0], {})
            tokens = written.tokens = torch.cat([written.tokens, tokens], dim=1)
        logits, _ = self.network.decoder(tokens, encoded, written.state if written else None)
        return SimpleNamespace(logits=logits[..., self.places], past_key_values=written)


@dataclasses.dataclass(eq=False)
class _Written:
    """What a decoder has written, and the keys and values that fairseq keeps of it; rows are chosen as in transformers.

    There, attention to what was written and to the source has a cache each, and beam search chooses rows of the second
    only if another source comes to stand in a row. Here the first stands for both, which comes to the same.
    """

    tokens: Tensor
    state: dict[str, dict[str, Tensor | None]]

    @property
    def self_attention_cache(self) -> _Written:
        return self

    @property
    def cross_attention_cache(self) -> Any:
        return SimpleNamespace(reorder_cache=lambda rows: None)

    def reorder_cache(self, rows: Tensor) -> None:
        """Choose rows, in place."""
        self.tokens = self.tokens[rows]
        for kept in self.state.values():
            chosen = {name: tensor.index_select(0, rows) for name, tensor in kept.items() if tensor is not None}
            kept.update(chosen)
