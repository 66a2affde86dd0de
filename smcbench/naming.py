"""What fairseq and transformers call the tensors of RoBERTa and mBART: one table, read in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Library = Literal["fairseq", "transformers"]
Architecture = Literal["roberta", "mbart"]
Head = Literal["words", "choices", "classes"]
"""Of RoBERTa: the language model's, one that scores each choice, or one for classes."""

HEAD = "sentence_classification_head"
"""What fairseq's own tasks call the head they fine-tune, for ranking too."""
PAD = 1
"""The padding token of every dictionary of fairseq, after which it numbers positions."""
EMBEDDING: dict[Architecture, str] = {
    "roberta": "encoder.sentence_encoder.embed_tokens.weight",
    "mbart": "encoder.embed_tokens.weight",
}
POSITIONS = "encoder.sentence_encoder.embed_positions.weight"
"""fairseq's names of the token embeddings, and of RoBERTa's position embedding."""
SEGMENT = "roberta.embeddings.token_type_embeddings.weight"
"""transformers' RoBERTa adds one row to every token; fairseq's does not."""
VERSIONS: dict[Architecture, tuple[str, ...]] = {
    "roberta": ("encoder.sentence_encoder.version",),
    "mbart": ("encoder.version", "decoder.version"),
}
"""Where the number 3 must stand: without it fairseq leaves mBART's last normalisations out."""


class Pair(NamedTuple):
    """A tensor's two names, and its shape in sizes that all tensors of a model share."""

    fairseq: str
    transformers: str
    shape: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One library's view of an architecture.

    Attributes:
        mark: how names begin that no other architecture has.
        tied: other names of tensors, each with the name that counts.
        fixed: options without which the tensors would mean something else.
        heads: the options that hold the numbers of attention heads.
        sizes: the options that hold sizes, each with what that size is called in shapes; ``longest`` is the sequence
            that positions suffice for, and layers are counted.
    """

    mark: str
    tied: Mapping[str, str]
    fixed: Mapping[str, Any]
    heads: tuple[str, ...]
    sizes: Mapping[str, str]


SIDES: dict[tuple[Architecture, Library], Side] = {
    ("roberta", "fairseq"): Side(
        "encoder.sentence_encoder.",
        {"encoder.lm_head.weight": EMBEDDING["roberta"]},
        {
            "activation_fn": "gelu",
            "pooler_activation_fn": "tanh",
            "encoder_normalize_before": False,
            "layernorm_embedding": True,
            "no_scale_embedding": True,
        },
        ("encoder_attention_heads",),
        {
            "encoder_layers": "encoder layers",
            "encoder_embed_dim": "width",
            "encoder_ffn_embed_dim": "inner",
            "max_positions": "longest",
        },
    ),
    ("roberta", "transformers"): Side(
        "roberta.",
        {
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
        {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "pad_token_id": PAD},
        ("num_attention_heads",),
        {
            "num_hidden_layers": "encoder layers",
            "hidden_size": "width",
            "intermediate_size": "inner",
            "vocab_size": "vocabulary",
            "max_position_embeddings": "positions",
        },
    ),
    ("mbart", "fairseq"): Side(
        "decoder.layers.",
        {
            "decoder.embed_tokens.weight": EMBEDDING["mbart"],
            "decoder.output_projection.weight": EMBEDDING["mbart"],
        },
        {
            "activation_fn": "gelu",
            "encoder_normalize_before": True,
            "decoder_normalize_before": True,
            "encoder_learned_pos": True,
            "decoder_learned_pos": True,
            "layernorm_embedding": True,
            "no_scale_embedding": False,
            "share_all_embeddings": True,
        },
        ("encoder_attention_heads", "decoder_attention_heads"),
        {
            "encoder_layers": "encoder layers",
            "decoder_layers": "decoder layers",
            "encoder_embed_dim": "width",
            "decoder_embed_dim": "width",
            "encoder_ffn_embed_dim": "encoder inner",
            "decoder_ffn_embed_dim": "decoder inner",
            "max_source_positions": "encoder longest",
            "max_target_positions": "decoder longest",
        },
    ),
    ("mbart", "transformers"): Side(
        "model.decoder.layers.",
        {
            "model.encoder.embed_tokens.weight": "model.shared.weight",
            "model.decoder.embed_tokens.weight": "model.shared.weight",
            "lm_head.weight": "model.shared.weight",
        },
        {"activation_function": "gelu", "scale_embedding": True},
        ("encoder_attention_heads", "decoder_attention_heads"),
        {
            "encoder_layers": "encoder layers",
            "decoder_layers": "decoder layers",
            "d_model": "width",
            "encoder_ffn_dim": "encoder inner",
            "decoder_ffn_dim": "decoder inner",
            "vocab_size": "vocabulary",
            "max_position_embeddings": "encoder longest",
        },
    ),
}


def roberta(layers: int, head: Head, name: str = HEAD) -> Iterator[Pair]:
    """All tensors of a RoBERTa whose fine-tuned head fairseq calls ``name``."""
    encoder, embeddings = "encoder.sentence_encoder", "roberta.embeddings"
    yield Pair(EMBEDDING["roberta"], f"{embeddings}.word_embeddings.weight", ("vocabulary", "width"))
    yield Pair(POSITIONS, f"{embeddings}.position_embeddings.weight", ("positions", "width"))
    yield from _norm(f"{encoder}.layernorm_embedding", f"{embeddings}.LayerNorm")
    for i in range(layers):
        theirs, ours = f"{encoder}.layers.{i}", f"roberta.encoder.layer.{i}"
        for short, long in (("q", "query"), ("k", "key"), ("v", "value")):
            yield from _linear(f"{theirs}.self_attn.{short}_proj", f"{ours}.attention.self.{long}", "width", "width")
        yield from _linear(f"{theirs}.self_attn.out_proj", f"{ours}.attention.output.dense", "width", "width")
        yield from _norm(f"{theirs}.self_attn_layer_norm", f"{ours}.attention.output.LayerNorm")
        yield from _linear(f"{theirs}.fc1", f"{ours}.intermediate.dense", "inner", "width")
        yield from _linear(f"{theirs}.fc2", f"{ours}.output.dense", "width", "inner")
        yield from _norm(f"{theirs}.final_layer_norm", f"{ours}.output.LayerNorm")
    if head == "words":
        yield from word_head()
    else:  # in both: the first token, dropout, a dense layer, tanh, dropout, a projection
        dense, projection = {
            "choices": ("roberta.pooler.dense", "classifier"),
            "classes": ("classifier.dense", "classifier.out_proj"),
        }[head]
        yield from _linear(f"classification_heads.{name}.dense", dense, "width", "width")
        yield from _linear(f"classification_heads.{name}.out_proj", projection, "outputs", "width")


def word_head() -> Iterator[Pair]:
    """The language-model head, but for the embedding that it is tied to."""
    yield from _linear("encoder.lm_head.dense", "lm_head.dense", "width", "width")
    yield from _norm("encoder.lm_head.layer_norm", "lm_head.layer_norm")
    yield Pair("encoder.lm_head.bias", "lm_head.bias", ("vocabulary",))


def mbart(layers: Mapping[str, int]) -> Iterator[Pair]:
    """All tensors of an mBART with so many layers in its ``encoder`` and its ``decoder``."""
    yield Pair(EMBEDDING["mbart"], "model.shared.weight", ("vocabulary", "width"))
    for part, count in layers.items():
        inner, positions = f"{part} inner", f"{part}.embed_positions.weight"
        yield Pair(positions, f"model.{positions}", (f"{part} positions", "width"))
        yield from _norm(f"{part}.layernorm_embedding", f"model.{part}.layernorm_embedding")
        yield from _norm(f"{part}.layer_norm", f"model.{part}.layer_norm")
        for i in range(count):
            name = f"{part}.layers.{i}"
            for attention in ("self_attn", "encoder_attn") if part == "decoder" else ("self_attn",):
                for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    both = f"{name}.{attention}.{projection}"
                    yield from _linear(both, f"model.{both}", "width", "width")
                yield from _norm(f"{name}.{attention}_layer_norm", f"model.{name}.{attention}_layer_norm")
            yield from _linear(f"{name}.fc1", f"model.{name}.fc1", inner, "width")
            yield from _linear(f"{name}.fc2", f"model.{name}.fc2", "width", inner)
            yield from _norm(f"{name}.final_layer_norm", f"model.{name}.final_layer_norm")


def _linear(theirs: str, ours: str, out: str, into: str) -> Iterator[Pair]:
    yield Pair(f"{theirs}.weight", f"{ours}.weight", (out, into))
    yield Pair(f"{theirs}.bias", f"{ours}.bias", (out,))


def _norm(theirs: str, ours: str) -> Iterator[Pair]:
    yield Pair(f"{theirs}.weight", f"{ours}.weight", ("width",))
    yield Pair(f"{theirs}.bias", f"{ours}.bias", ("width",))
