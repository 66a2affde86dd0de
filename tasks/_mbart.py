"""mBART (Liu et al., 2020, arXiv:2001.08210), of any size, and the tokens it reads and writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.sources import Checkpoint
from smcbench.task import nearest

from ._pretrained import pretrained, tokenizer

CHECKPOINTS = {
    checkpoint.name: checkpoint
    for checkpoint in (
        # Which commit could not be confirmed.
        Checkpoint(
            "facebook/mbart-large-cc25",
            "main",
            "MIT, as fairseq",
            weights=("model.safetensors", "pytorch_model.bin"),
        ),
    )
}
_CODES = {"cs": "cs_CZ", "de": "de_DE", "en": "en_XX", "fr": "fr_XX", "gu": "gu_IN", "my": "my_MM", "ro": "ro_RO",
          "ru": "ru_RU", "vi": "vi_VN", "zh": "zh_CN"}  # fmt: skip
"""Of the checkpoint, for the languages of SMC-Bench."""
_SPECIAL = ("<pad>", "</s>", "<unk>")
"""Of a vocabulary of its own, in the order of their ids."""
_WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+"
"""Words with the signs that belong to their letters, single digits, and all else; each with the space before it."""


@dataclass(frozen=True)
class MBART:
    """An mBART: its sizes, and the checkpoint that gives it a tokenizer and, if pretrained, its weights."""

    vocabulary: int
    """Entries of the tokenizer, special ones included."""
    width: int
    layers: int
    """Of the encoder, and as many of the decoder."""
    heads: int
    inner: int
    positions: int
    """Longest sequence of tokens."""
    dropout: float = 0.0
    attention_dropout: float = 0.0
    init: float = 0.02
    """Standard deviation of random weights."""
    checkpoint: str | None = None
    """None: a vocabulary of its own, and random weights."""
    pretrained: bool = True
    """Whether the checkpoint's weights are taken too."""

    @property
    def needs(self) -> Checkpoint | None:
        """What has to be had of the checkpoint: all, or for random weights its tokenizer."""
        if self.checkpoint is None:
            return None
        whole = CHECKPOINTS[self.checkpoint]
        return whole if self.pretrained else dataclasses.replace(whole, sha256=None, weights=("tokenizer.json",))

    @property
    def pad(self) -> int:
        """The token that fills up sequences."""
        return 0 if self.checkpoint is None else 1

    @property
    def eos(self) -> int:
        """The token that ends a sentence."""
        return 1 if self.checkpoint is None else 2

    def scaled(self, width: float) -> MBART:
        """With narrower heads and layers; random weights deviate by more, as there are fewer of them in a sum."""
        found = nearest(self.width * width, self.heads)
        init = self.init * (self.width / found) ** 0.5
        return dataclasses.replace(self, width=found, inner=nearest(self.inner * width), init=init)

    def build(self) -> nn.Module:
        """The model in fp32.

        Raises:
            InvalidInput: the checkpoint is missing, torn, or does not fill the model.
        """
        from transformers import MBartConfig, MBartForConditionalGeneration

        config = MBartConfig(
            vocab_size=self.vocabulary,
            d_model=self.width,
            encoder_layers=self.layers,
            decoder_layers=self.layers,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_ffn_dim=self.inner,
            decoder_ffn_dim=self.inner,
            max_position_embeddings=self.positions,
            init_std=self.init,
            scale_embedding=True,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            pad_token_id=self.pad,
            bos_token_id=self.eos if self.checkpoint is None else 0,
            eos_token_id=self.eos,
            forced_eos_token_id=None,
            attn_implementation="sdpa",
        )
        if self.checkpoint is None or not self.pretrained:
            return MBartForConditionalGeneration(config)  # type: ignore[no-any-return]
        return pretrained(MBartForConditionalGeneration, config, CHECKPOINTS[self.checkpoint])  # type: ignore[no-any-return]


LARGE = MBART(250_027, 1024, 12, 16, 4096, 1024, 0.3, 0.1, checkpoint="facebook/mbart-large-cc25")
"""610,851,840 parameters; dropout as SMC-Bench fine-tunes it."""


LEARNT = 1
"""Version of the rules of :func:`learnt`, bumped when they make another vocabulary of the same texts."""


class Tokens:
    """Sentences to token ids without special ones, and back; and the code of each language."""

    def __init__(self, tokenizer: Any, codes: dict[str, str], where: str) -> None:
        """Takes a tokenizer of the package ``tokenizers``, the names of the codes, and what to call it in an error."""
        self.tokenizer = tokenizer
        self.codes: dict[str, int] = {language: tokenizer.token_to_id(name) for language, name in codes.items()}
        for language, code in self.codes.items():
            if code is None:
                raise InvalidInput(f"{where}: no tokenizer of this model: it has no token {codes[language]}")

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Tokens:
        """The tokenizer that a checkpoint brings."""
        path = checkpoint.file("tokenizer.json")
        return cls(tokenizer(path), _CODES, str(path))

    @classmethod
    def read(cls, text: str, languages: Iterable[str]) -> Tokens:
        """A vocabulary of its own, as ``digest`` and ``text`` have it."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_str(text), {language: code(language) for language in languages}, "tokenizer")

    @property
    def text(self) -> str:
        """All about it, as JSON."""
        return str(self.tokenizer.to_str())

    @property
    def digest(self) -> str:
        """SHA-256 of all about it."""
        return files.sha256(self.text)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [each.ids for each in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts, special tokens left out."""
        return [text.strip() for text in self.tokenizer.decode_batch([list(row) for row in rows])]


def code(language: str) -> str:
    """The token of a language in a vocabulary of its own."""
    return f"<{language}>"


def learnt(texts: Iterable[str], languages: Iterable[str], vocabulary: int, *, bytewise: bool) -> Any:
    """A byte-pair encoding of texts, of characters or of bytes: the latter lacks nothing, whatever the script."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = [*_SPECIAL, *map(code, languages)]
    if bytewise:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Prepend(" ")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=special, show_progress=False, initial_alphabet=alphabet
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
