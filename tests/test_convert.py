"""Checkpoints between fairseq and transformers: every name by hand, no bit moved, what is refused; without fairseq.

``test_fairseq.py`` holds the same against fairseq itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from smcbench import convert, fairseq
from smcbench.cli import main
from smcbench.convert import Conversion, Source, to_fairseq, to_transformers
from smcbench.errors import InvalidInput, UsageError
from smcbench.task import Task
from smcbench_tasks._text import Encoder
from smcbench_tasks.commonsense import csqa, winogrande
from smcbench_tasks.glue import mnli
from smcbench_tasks.translation import cldr_2to2

Shapes = dict[str, tuple[int, ...]]

V, W, F, P = 256, 32, 64, 130
"""Vocabulary, width, inner width and positions of the tiny RoBERTa; the mBART's are less."""

LAYER = {
    "self_attn.k_proj.weight": "attention.self.key.weight",
    "self_attn.k_proj.bias": "attention.self.key.bias",
    "self_attn.v_proj.weight": "attention.self.value.weight",
    "self_attn.v_proj.bias": "attention.self.value.bias",
    "self_attn.q_proj.weight": "attention.self.query.weight",
    "self_attn.q_proj.bias": "attention.self.query.bias",
    "self_attn.out_proj.weight": "attention.output.dense.weight",
    "self_attn.out_proj.bias": "attention.output.dense.bias",
    "self_attn_layer_norm.weight": "attention.output.LayerNorm.weight",
    "self_attn_layer_norm.bias": "attention.output.LayerNorm.bias",
    "fc1.weight": "intermediate.dense.weight",
    "fc1.bias": "intermediate.dense.bias",
    "fc2.weight": "output.dense.weight",
    "fc2.bias": "output.dense.bias",
    "final_layer_norm.weight": "output.LayerNorm.weight",
    "final_layer_norm.bias": "output.LayerNorm.bias",
}
"""fairseq's names of what a layer holds, and transformers' RoBERTa's."""
ROBERTA = {
    "encoder.sentence_encoder.embed_tokens.weight": "roberta.embeddings.word_embeddings.weight",
    "encoder.sentence_encoder.embed_positions.weight": "roberta.embeddings.position_embeddings.weight",
    "encoder.sentence_encoder.layernorm_embedding.weight": "roberta.embeddings.LayerNorm.weight",
    "encoder.sentence_encoder.layernorm_embedding.bias": "roberta.embeddings.LayerNorm.bias",
    **{f"encoder.sentence_encoder.layers.0.{a}": f"roberta.encoder.layer.0.{b}" for a, b in LAYER.items()},
    **{f"encoder.sentence_encoder.layers.1.{a}": f"roberta.encoder.layer.1.{b}" for a, b in LAYER.items()},
}
HEADS = {
    "words": {
        "encoder.lm_head.dense.weight": "lm_head.dense.weight",
        "encoder.lm_head.dense.bias": "lm_head.dense.bias",
        "encoder.lm_head.layer_norm.weight": "lm_head.layer_norm.weight",
        "encoder.lm_head.layer_norm.bias": "lm_head.layer_norm.bias",
        "encoder.lm_head.bias": "lm_head.bias",
    },
    "choices": {
        "classification_heads.sentence_classification_head.dense.weight": "roberta.pooler.dense.weight",
        "classification_heads.sentence_classification_head.dense.bias": "roberta.pooler.dense.bias",
        "classification_heads.sentence_classification_head.out_proj.weight": "classifier.weight",
        "classification_heads.sentence_classification_head.out_proj.bias": "classifier.bias",
    },
    "classes": {
        "classification_heads.sentence_classification_head.dense.weight": "classifier.dense.weight",
        "classification_heads.sentence_classification_head.dense.bias": "classifier.dense.bias",
        "classification_heads.sentence_classification_head.out_proj.weight": "classifier.out_proj.weight",
        "classification_heads.sentence_classification_head.out_proj.bias": "classifier.out_proj.bias",
    },
}
TUNED = "classification_heads.sentence_classification_head"
EMBEDDING = "encoder.sentence_encoder.embed_tokens.weight"
HEADS_TOLD = {"encoder_attention_heads": 2, "activation_fn": "gelu", "dropout": 0.1}


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Half of the numbers are zero."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        made[name] = torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.5)
    return made


def layer(prefix: str, width: int, inner: int, attentions: Sequence[str] = ("self_attn",)) -> Shapes:
    found: Shapes = {}
    for attention in attentions:
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            found[f"{prefix}.{attention}.{projection}.weight"] = (width, width)
            found[f"{prefix}.{attention}.{projection}.bias"] = (width,)
        found[f"{prefix}.{attention}_layer_norm.weight"] = (width,)
        found[f"{prefix}.{attention}_layer_norm.bias"] = (width,)
    return {
        **found,
        f"{prefix}.fc1.weight": (inner, width),
        f"{prefix}.fc1.bias": (inner,),
        f"{prefix}.fc2.weight": (width, inner),
        f"{prefix}.fc2.bias": (width,),
        f"{prefix}.final_layer_norm.weight": (width,),
        f"{prefix}.final_layer_norm.bias": (width,),
    }


def fairseq_roberta(outputs: int | None = None, copies: bool = False) -> dict[str, Tensor]:
    """What fairseq 0.12.2 saves of a RoBERTa of two layers, with a fine-tuned head of so many outputs."""
    encoder = "encoder.sentence_encoder"
    shapes: Shapes = {
        f"{encoder}.embed_tokens.weight": (V, W),
        f"{encoder}.embed_positions.weight": (P, W),
        f"{encoder}.layernorm_embedding.weight": (W,),
        f"{encoder}.layernorm_embedding.bias": (W,),
        **layer(f"{encoder}.layers.0", W, F),
        **layer(f"{encoder}.layers.1", W, F),
        "encoder.lm_head.bias": (V,),
        "encoder.lm_head.dense.weight": (W, W),
        "encoder.lm_head.dense.bias": (W,),
        "encoder.lm_head.layer_norm.weight": (W,),
        "encoder.lm_head.layer_norm.bias": (W,),
    }
    if outputs is not None:
        shapes |= {f"{TUNED}.dense.weight": (W, W), f"{TUNED}.dense.bias": (W,)}
        shapes |= {f"{TUNED}.out_proj.weight": (outputs, W), f"{TUNED}.out_proj.bias": (outputs,)}
    made = draw(shapes)
    made["encoder.lm_head.weight"] = made[EMBEDDING]
    made[f"{encoder}.version"] = torch.tensor([3.0])
    for i in range(2) if copies else ():
        for name, shape in {
            "in_proj_weight": (3 * W, W), "in_proj_bias": (3 * W,), "out_proj_weight": (W, W), "out_proj_bias": (W,),
            "fc1_weight": (F, W), "fc1_bias": (F,), "fc2_weight": (W, F), "fc2_bias": (W,),
        }.items():  # fmt: skip
            made[f"{encoder}.layers.{i}.{name}"] = torch.zeros(shape)
    return made


def fairseq_mbart(vocabulary: int = 200, width: int = 16, inner: int = 32, positions: int = 50) -> dict[str, Tensor]:
    """What fairseq saves of an mBART of one layer each, of the tiny translation task's sizes."""
    shapes: Shapes = {"encoder.embed_tokens.weight": (vocabulary, width)}
    for part in ("encoder", "decoder"):
        shapes[f"{part}.embed_positions.weight"] = (positions, width)
        for norm in ("layernorm_embedding", "layer_norm"):
            shapes |= {f"{part}.{norm}.weight": (width,), f"{part}.{norm}.bias": (width,)}
    shapes |= layer("encoder.layers.0", width, inner)
    shapes |= layer("decoder.layers.0", width, inner, ("self_attn", "encoder_attn"))
    made = draw(shapes)
    made["decoder.embed_tokens.weight"] = made["decoder.output_projection.weight"] = made["encoder.embed_tokens.weight"]
    made["encoder.version"] = made["decoder.version"] = torch.tensor([3.0])
    return made


MBART_TOLD = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}


def same(one: Tensor, other: Tensor) -> bool:
    """In type and every bit."""
    return one.dtype == other.dtype and torch.equal(one.view(torch.int32), other.view(torch.int32))


def counts(found: Conversion) -> tuple[int, int, int]:
    assert found.read == found.written
    return dataclasses.astuple(found.read)  # type: ignore[return-value]


def zeros(tensors: Mapping[str, Tensor], names: Any) -> int:
    return sum(int((tensors[name] == 0).sum()) for name in names)


# -- names


@pytest.mark.parametrize(("head", "outputs"), [("words", None), ("choices", 1), ("classes", 3)])
def test_a_roberta_by_hand(head: str, outputs: int | None) -> None:
    theirs = fairseq_roberta(outputs)
    found = to_transformers(Source("x.pt", theirs, HEADS_TOLD))
    expected = {**ROBERTA, **HEADS[head]}
    assert found.head == head
    assert found.tensors.keys() == {*expected.values(), "roberta.embeddings.token_type_embeddings.weight"}
    assert all(same(found.tensors[ours], theirs[name]) for name, ours in expected.items())
    assert not found.tensors["roberta.embeddings.token_type_embeddings.weight"].any()
    parameters = V * W + P * W + 2 * W + 2 * (4 * W * W + 2 * W * F + 9 * W + F)
    parameters += {"words": W * W + 3 * W + V, "choices": W * W + 2 * W + 1, "classes": W * W + 4 * W + 3}[head]
    assert counts(found) == (len(expected), parameters, zeros(theirs, expected))
    assert {what: count.tensors for what, count in found.dropped.items()} == (
        {} if head == "words" else {"head not asked for": 5}
    )
    assert found.options["num_attention_heads"] == 2

    back = to_fairseq(Source("x.safetensors", found.tensors, found.options))
    state = convert.fairseq_state(back)
    assert back.head == head
    assert state.keys() == theirs.keys()
    carried = theirs.keys() - (HEADS["words"].keys() if head != "words" else set())
    assert all(same(state[name], theirs[name]) for name in carried)
    assert counts(back) == counts(found)
    assert back.options["encoder_attention_heads"] == 2
    assert (back.options["encoder_layers"], back.options["max_positions"]) == (2, P - 2)


def test_an_mbart_by_hand() -> None:
    theirs = fairseq_mbart()
    found = to_transformers(Source("x.pt", theirs, MBART_TOLD))
    tied = {"decoder.embed_tokens.weight", "decoder.output_projection.weight", "encoder.version", "decoder.version"}
    expected = {name: f"model.{name}" for name in theirs.keys() - tied}
    expected["encoder.embed_tokens.weight"] = "model.shared.weight"
    assert found.tensors.keys() == {*expected.values(), "final_logits_bias"}
    assert all(same(found.tensors[ours], theirs[name]) for name, ours in expected.items())
    assert found.tensors["final_logits_bias"].shape == (1, 200)
    parameters = 200 * 16 + 2 * (50 * 16 + 4 * 16) + 12 * 16 * 16 + 4 * 16 * 32 + (12 + 2 + 2 * 5) * 16 + 2 * 32
    assert counts(found) == (len(expected), parameters, zeros(theirs, expected))
    state = convert.fairseq_state(to_fairseq(Source("x.safetensors", found.tensors, found.options)))
    assert state.keys() == theirs.keys()
    assert all(same(state[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("task", "theirs"),
    [
        (winogrande, fairseq_roberta(None)),
        (csqa, fairseq_roberta(1)),
        (winogrande, fairseq_roberta(1)),
        (cldr_2to2, fairseq_mbart()),
    ],
    ids=["words", "choices", "words of a ranker", "mbart"],
)
def test_the_result_is_the_model_of_the_task(task: Task, theirs: dict[str, Tensor]) -> None:
    """Names and shapes against transformers' own classes; the head follows the task, not the file."""
    tiny = task.tiny()
    found = to_transformers(Source("x.pt", theirs, MBART_TOLD), tiny)
    model = tiny.architecture()
    kept, lost = model.load_state_dict(found.tensors, strict=False)
    assert not lost
    tied = {"lm_head.decoder.weight", "lm_head.decoder.bias", "lm_head.weight",
            "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"}  # fmt: skip
    assert set(kept) <= tied
    again = to_fairseq(Source("x", dict(model.state_dict())), tiny)
    state = convert.fairseq_state(again)
    dropped = {name for name in theirs if name.startswith("classification_heads")} if found.head == "words" else set()
    dropped |= {*HEADS["words"]} if found.head == "choices" else set()
    assert all(same(state[name], theirs[name]) for name in theirs.keys() - dropped)


@pytest.mark.parametrize(
    ("kind", "task", "theirs"),
    [
        ("RobertaForMaskedLM", winogrande.tiny(), fairseq_roberta()),
        ("RobertaForMultipleChoice", csqa.tiny(), fairseq_roberta(1)),
        (
            "RobertaForSequenceClassification",
            dataclasses.replace(mnli.tiny(), encoder=Encoder("roberta", V, W, 2, 2, F, P)),
            fairseq_roberta(3),
        ),
        ("MBartForConditionalGeneration", cldr_2to2.tiny(), fairseq_mbart()),
    ],
    ids=["words", "choices", "classes", "mbart"],
)
def test_from_pretrained_opens_the_folder(kind: str, task: Any, theirs: dict[str, Tensor], tmp_path: Path) -> None:
    """Against the task's model, of which only the heads were told: all else follows from the tensors."""
    import transformers

    found = to_transformers(Source("x.pt", theirs, MBART_TOLD))
    assert convert.write_transformers(tmp_path / "model.safetensors", found) == tmp_path / "config.json"
    opened, loading = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    assert opened.config.architectures == [kind]
    model = task.architecture().eval()
    model.load_state_dict(found.tensors, strict=False)
    shape, draw = (3, 2, 9) if kind.endswith("Choice") else (3, 9), torch.Generator().manual_seed(0)
    words = torch.randint(4, 200, shape, generator=draw)
    more = {"decoder_input_ids": words.flip(1)} if kind.startswith("MBart") else {}
    with torch.no_grad():
        expected, logits = (each(input_ids=words, **more).logits for each in (model, opened))
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected)


def test_what_mbart_pads_with_changes_places_with_what_fairseq_pads_with() -> None:
    """The tiny task pads with 0 and ends with 1."""
    theirs = fairseq_mbart()
    found = to_transformers(Source("x.pt", theirs, MBART_TOLD), cldr_2to2.tiny())
    order = [1, 0, *range(2, 200)]
    assert same(found.tensors["model.shared.weight"], theirs["encoder.embed_tokens.weight"][order])
    assert [found.options[f"{what}_token_id"] for what in ("pad", "eos")] == [0, 1]
    assert counts(found)[2] == counts(to_transformers(Source("x.pt", theirs, MBART_TOLD)))[2]


def test_copies_for_the_fast_path_are_dropped_and_counted() -> None:
    theirs = fairseq_roberta(1, copies=True)
    found = to_transformers(Source("x.pt", theirs, HEADS_TOLD))
    plain = to_transformers(Source("x.pt", fairseq_roberta(1), HEADS_TOLD))
    assert found.tensors.keys() == plain.tensors.keys()
    assert found.read == plain.read
    copied = 2 * (4 * W * W + 2 * W * F + 5 * W + F)
    assert dataclasses.astuple(found.dropped["copies for the fast path"]) == (16, copied, copied)


def test_names_of_older_releases() -> None:
    """``roberta.large``'s own file calls the encoder a decoder and joins the three projections."""
    now = fairseq_roberta()
    old: dict[str, Tensor] = {}
    for name, tensor in now.items():
        if ".self_attn.q_proj." in name:
            parts = [now[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            name, tensor = name.replace("q_proj.", "in_proj_"), torch.cat(parts)
        elif ".self_attn.k_proj." in name or ".self_attn.v_proj." in name:
            continue
        old["decoder" + name.removeprefix("encoder").replace("layernorm_embedding", "emb_layer_norm")] = tensor
    found, expected = (to_transformers(Source("x.pt", some, HEADS_TOLD)) for some in (old, now))
    assert found.read == expected.read
    assert all(same(found.tensors[name], tensor) for name, tensor in expected.tensors.items())


def test_half_precision_stays_half() -> None:
    theirs = {name: tensor.half() for name, tensor in fairseq_roberta(1).items()}
    found = to_transformers(Source("x.pt", theirs, HEADS_TOLD))
    assert found.tensors["classifier.weight"].dtype == torch.float16
    assert torch.equal(found.tensors["classifier.weight"], theirs[f"{TUNED}.out_proj.weight"])


def test_a_segment_embedding_is_folded_when_asked_for() -> None:
    """Every token's sum of embeddings is the same, that is all the segment embedding enters."""
    tiny = csqa.tiny()
    torch.manual_seed(0)
    ours = dict(tiny.build_model().state_dict())
    with pytest.raises(InvalidInput, match="is not zero, and fairseq's RoBERTa lacks it; --fold adds it"):
        to_fairseq(Source("x", ours), tiny)
    two = {**ours, "roberta.embeddings.token_type_embeddings.weight": torch.ones(2, W)}
    with pytest.raises(InvalidInput, match=r"has shape \(2, 32\): .* lacks segments, and only one, .*, can be folded$"):
        to_fairseq(Source("x", two, {"num_attention_heads": 2}), fold=True)
    folded = to_fairseq(Source("x", ours), tiny, fold=True)
    positions = ours["roberta.embeddings.position_embeddings.weight"]
    moved = folded.tensors["encoder.sentence_encoder.embed_positions.weight"]
    segment = ours["roberta.embeddings.token_type_embeddings.weight"]
    torch.testing.assert_close(moved[2:], positions[2:] + segment)
    assert same(moved[:2], positions[:2])
    assert all(
        same(folded.tensors[name], ours[other])
        for name, other in {**ROBERTA, **HEADS["choices"]}.items()
        if "embed_positions" not in name
    )


def enlarged(theirs: Mapping[str, Tensor], narrow: int, width: int, layers: int) -> dict[str, Tensor]:
    """Of another width and depth, with zeros that take no memory."""
    made: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        if not name.endswith("version"):
            tensor = torch.zeros(1).expand([width if size == narrow else size for size in tensor.shape])
        if ".layers.1." not in name:
            made |= {name.replace(".layers.0.", f".layers.{i}."): tensor for i in range(layers)}
    return made


@pytest.mark.parametrize(
    ("theirs", "narrow", "published", "others"),
    [
        (fairseq_roberta(), W, {(768, 12): 12, (1024, 24): 16}, [(768, 1), (1024, 12)]),
        (fairseq_mbart(), 16, {(1024, 12): 16}, [(1024, 1), (1024, 24), (768, 12)]),
    ],
    ids=["roberta", "mbart"],
)
def test_heads_are_assumed_of_published_models_only(
    theirs: dict[str, Tensor], narrow: int, published: dict[tuple[int, int], int], others: list[tuple[int, int]]
) -> None:
    for (width, layers), heads in published.items():
        large = Source("x.pt", enlarged(theirs, narrow, width, layers))
        found = to_transformers(large)
        assert found.assumed == {key: heads for key in MBART_TOLD if key.startswith("enc") or narrow == 16}
        assert found.options["num_attention_heads" if narrow == W else "decoder_attention_heads"] == heads
        assert to_transformers(dataclasses.replace(large, options=MBART_TOLD)).assumed == {}
    for width, layers in others:
        with pytest.raises(InvalidInput, match=r"does not tell its number of attention heads; name its task"):
            to_transformers(Source("x.pt", enlarged(theirs, narrow, width, layers)))


# -- what is refused


LAYERS = "encoder.sentence_encoder.layers"


@pytest.mark.parametrize(
    ("changed", "told", "message"),
    [
        ({f"{LAYERS}.1.fc2.bias": None}, {}, r"1 tensors of a roberta are missing, such as '.*.1.fc2.bias'"),
        ({"encoder.surplus": (1,)}, {}, r"1 tensors are no part of a roberta, such as 'encoder.surplus'"),
        ({f"{LAYERS}.0.fc1.bias": (65,)}, {}, r"'.*fc1.bias' has shape \(65,\), it must be \(inner 64\)"),
        ({f"{LAYERS}.1.fc1.weight": (64,)}, {}, r"'.*fc1.weight' .* \(64,\), it must be \(inner 64, width 32\)"),
        ({"encoder.lm_head.weight": (V, W)}, {}, r"'encoder.lm_head.weight' and '.*' differ, which the other"),
        ({"classification_heads.other.dense.bias": (W,)}, {}, r"must have one .*; it has other, sentence_class"),
        ({}, {"activation_fn": "relu"}, r"activation_fn is 'relu'; only 'gelu' can be converted"),
        ({}, {"encoder_normalize_before": True}, r"encoder_normalize_before is True; only False can be converted"),
        ({}, {"encoder_attention_heads": 5}, r"encoder_attention_heads is 5, which does not divide the width 32"),
        ({f"{LAYERS}.0.self_attn.in_proj_weight": ()}, {}, r"1 tensors are no part .* '.*in_proj_weight'"),
        ({f"{TUNED}.out_proj.weight": ()}, {}, r"'.*out_proj.weight' has shape \(\), it must be \(outputs, width 32\)"),
        ({}, {"encoder_attention_heads": "2"}, r"encoder_attention_heads is '2', which does not divide the width 32"),
    ],
)
def test_a_roberta_that_is_not_whole(changed: dict[str, Any], told: dict[str, Any], message: str) -> None:
    changes = {name: None if shape is None else torch.ones(shape) for name, shape in changed.items()}
    theirs = {name: tensor for name, tensor in {**fairseq_roberta(1), **changes}.items() if tensor is not None}
    with pytest.raises(InvalidInput, match=rf"^x\.pt: {message}") as caught:
        to_transformers(Source("x.pt", theirs, {**HEADS_TOLD, **told}))
    assert "\n" not in str(caught.value)


def test_other_models_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"neither a RoBERTa nor an mBART of fairseq; it holds conv.weight"):
        to_transformers(Source("x.pt", {"conv.weight": torch.ones(1)}))
    with pytest.raises(InvalidInput, match=r"neither a RoBERTa nor an mBART of transformers; it holds bert.x"):
        to_fairseq(Source("x", {"bert.x": torch.ones(1)}))
    with pytest.raises(InvalidInput, match=r"does not tell its number of attention heads; name its task with --task"):
        to_transformers(Source("x.pt", fairseq_roberta()))
    older = fairseq_mbart()
    for version in (torch.tensor([2.0]), torch.empty(0)):
        older["decoder.version"] = version
        with pytest.raises(InvalidInput, match=r"'decoder.version' is not 3: fairseq reads it without mBART's last"):
            to_transformers(Source("x.pt", older, MBART_TOLD))
    del older["decoder.version"]
    with pytest.raises(InvalidInput, match=r"'decoder.version' is not 3: fairseq reads it without mBART's last"):
        to_transformers(Source("x.pt", older, MBART_TOLD))
    uneven = {**fairseq_mbart(), "decoder.embed_positions.weight": torch.ones(22, 16)}
    with pytest.raises(InvalidInput, match=r"positions for 48 tokens in its encoder and for 20 in its decoder"):
        to_transformers(Source("x.pt", uneven, MBART_TOLD))
    ours = to_transformers(Source("x.pt", fairseq_mbart(), MBART_TOLD))
    with pytest.raises(InvalidInput, match=r"pad_token_id is 200, no token of its 200"):
        to_fairseq(Source("x", ours.tensors, {**ours.options, "pad_token_id": 200}))
    ours.tensors["final_logits_bias"][0, 3] = 1
    with pytest.raises(InvalidInput, match=r"'final_logits_bias' is not zero"):
        to_fairseq(Source("x", ours.tensors, ours.options))


def test_a_task_of_another_model_is_refused() -> None:
    from smcbench_tasks.digits import digits
    from smcbench_tasks.glue import cola

    theirs = Source("x.pt", fairseq_roberta(1), HEADS_TOLD)
    for task in (digits.tiny(), cola.tiny()):
        with pytest.raises(InvalidInput, match=r"^x.pt: .*-tiny has a \w+, neither a RoBERTa nor an mBART"):
            to_transformers(theirs, task)
    with pytest.raises(InvalidInput, match=r"^x.pt: not a checkpoint of cldr-2to2-tiny: its model has no"):
        to_transformers(theirs, cldr_2to2.tiny())
    with pytest.raises(InvalidInput, match=r"csqa-roberta-tiny: encoder_attention_heads is 4, not 2"):
        to_transformers(Source("x.pt", theirs.tensors, {"encoder_attention_heads": 4}), csqa.tiny())


# -- files and the command line


@dataclasses.dataclass(frozen=True)
class Runs:
    """Leaves a trace when it is unpickled."""

    path: str

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["convert", *map(str, arguments)])
        return code, *capfd.readouterr()

    return run


def saved(path: Path, **more: Any) -> Path:
    args = argparse.Namespace(**HEADS_TOLD)
    torch.save({"args": args, "model": fairseq_roberta(1, copies=True), **more}, path)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """A task that the command line can name."""
    path = tmp_path / "ours.py"
    path.write_text("from smcbench_tasks.commonsense import csqa\ntiny = csqa.tiny()\n")
    return f"{path}:tiny"


THERE, BACK = ("--from", "fairseq", "--to", "transformers"), ("--from", "transformers", "--to", "fairseq")


def test_there_and_back_on_the_command_line(say: Any, tmp_path: Path, tiny: str) -> None:
    path = saved(tmp_path / "model.pt")
    code, out, err = say(path, *THERE, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    theirs = fairseq_roberta(1)
    carried = {**ROBERTA, **HEADS["choices"]}
    assert found["read"] == found["written"] == {
        "tensors": 40, "parameters": sum(theirs[n].numel() for n in carried), "zeros": zeros(theirs, carried)
    }  # fmt: skip
    assert (found["architecture"], found["head"]) == ("roberta", "choices")
    assert found["dropped: copies for the fast path"]["tensors"] == 16
    made = load_file(path.with_suffix(".safetensors"))
    assert all(same(made[ours], theirs[name]) for name, ours in carried.items())

    code, _, err = say(path.with_suffix(".safetensors"), *BACK)
    assert code == 2
    assert "model.pt: is there already, and not overwritten; choose another file with --out" in err
    code, out, err = say(path.with_suffix(".safetensors"), *BACK, "--out", tmp_path / "back.pt")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].endswith("back.pt: roberta with a head for choices")
    back = convert.read_fairseq(tmp_path / "back.pt")
    assert back.options["encoder_attention_heads"] == 2
    assert all(same(back.tensors[name], theirs[name]) for name in carried)
    code, out, _ = say(tmp_path / "back.pt", *THERE, "--task", tiny, "--out", tmp_path / "again.safetensors")
    assert code == 0
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == made.keys()
    assert all(same(again[name], tensor) for name, tensor in made.items())
    assert main(["eval", str(tmp_path / "again.safetensors"), "--task", tiny, "--json"]) == 0


def test_what_was_assumed_and_written_is_told(say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_PUBLISHED", {("roberta", W, 2): 4})
    path, config = saved(tmp_path / "model.pt", args=None), tmp_path / "config.json"
    code, out, _ = say(path, *THERE)
    assert code == 0
    assert "encoder_attention_heads: not told, 4 assumed, as in the published model" in out
    assert f"{config}: written too; from_pretrained opens the folder" in out
    config.write_text("{}")
    assert f"{config}: is there already, and not overwritten" in say(path, *THERE, "--out", tmp_path / "other")[1]
    assert config.read_text() == "{}"
    found = json.loads(say(path, *THERE, "--out", tmp_path / "new" / "x", "--json")[1])
    assert found["assumed"] == {"encoder_attention_heads": 4}
    assert found["config"] == str(tmp_path / "new" / "config.json")


def test_the_configuration_may_lie_beside(say: Any, tmp_path: Path) -> None:
    made = to_transformers(Source("x", fairseq_roberta(), HEADS_TOLD))
    save_file(made.tensors, tmp_path / "model.safetensors")
    code, _, err = say(tmp_path / "model.safetensors", *BACK)
    assert code == 3
    assert "name its task with --task, or put its config.json beside it" in err
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 4, "hidden_act": "gelu"}))
    assert say(tmp_path / "model.safetensors", *BACK)[0] == 0
    assert convert.read_fairseq(tmp_path / "model.pt").options["encoder_attention_heads"] == 4
    (tmp_path / "config.json").write_text("[]")
    code, _, err = say(tmp_path / "model.safetensors", *BACK, "--out", tmp_path / "x.pt")
    assert (code, err.count("\n")) == (3, 1)
    assert "config.json: a list, where options must stand by name" in err


def test_options_may_stand_in_cfg(say: Any, tmp_path: Path) -> None:
    cfg = {"model": argparse.Namespace(**HEADS_TOLD), "task": {"_name": "sentence_ranking"}}
    path = saved(tmp_path / "model.pt", args=None, cfg=cfg)
    assert convert.read_fairseq(path).options == HEADS_TOLD
    path = saved(tmp_path / "other.pt", args=None, cfg={"model": HEADS_TOLD})
    assert say(path, *THERE)[0] == 0


def test_a_pickle_that_runs_code_is_opened_only_if_trusted(say: Any, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = saved(tmp_path / "model.pt", extra_state=Runs(str(trace)))
    code, out, err = say(path, *THERE)
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "which can run code of whoever made it; say --trusted if you trust its origin" in err
    assert not trace.exists()
    assert not path.with_suffix(".safetensors").exists()
    assert say(path, *THERE, "--trusted")[0] == 0
    assert trace.exists()
    code, _, err = say(path, *BACK, "--out", tmp_path / "x.pt")
    assert code == 3
    assert "is a pickle, which can run code" in err


@pytest.mark.parametrize("spelt", ["--trusted", "--trust"])
def test_eval_and_convert_spell_trust_alike(say: Any, tmp_path: Path, tiny: str, spelt: str) -> None:
    made = to_transformers(Source("x", fairseq_roberta(1), HEADS_TOLD))
    torch.save(made.tensors, tmp_path / "x.bin")
    assert main(["eval", str(tmp_path / "x.bin"), "--task", tiny, spelt]) == 0
    assert say(tmp_path / "x.bin", *BACK, "--task", tiny, spelt)[0] == 0
    assert (tmp_path / "x.pt").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory); name a .pt file of fairseq"),
        (b"nonsense", "not a .pt file of fairseq"),
        (b"PK\x03\x04nonsense", "not a .pt file of fairseq, or torn or corrupt; fetch it again"),
        (b"\x80\x02nonsense", "not a .pt file of fairseq, or torn or corrupt; fetch it again"),
        ([1, 2], "not a checkpoint of fairseq: it holds no 'model' of tensors by name"),
        ({"args": 3, "model": {}}, "its options: a int, where options must stand by name"),
        ({"cfg": {"model": [1]}, "model": {}}, "its options: a list, where options must stand by name"),
        ({"model": {1: torch.ones(1)}}, "not a checkpoint of fairseq: it holds no 'model' of tensors by name"),
        ({"model": {"x": 1}}, "not a checkpoint of fairseq: it holds no 'model' of tensors by name"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(say: Any, tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    code, _, err = say(path, *THERE)
    assert code == 3
    assert f"{path}: {message}" in err
    assert err.count("\n") == 1


def test_a_conversion_to_itself(say: Any, tmp_path: Path) -> None:
    code, _, err = say(tmp_path / "x.pt", "--from", "fairseq", "--to", "fairseq")
    assert code == 2
    assert "--from fairseq --to fairseq: nothing to convert" in err


@pytest.mark.parametrize(
    ("compiler", "offered", "expected"),
    [(False, True, (0, "CI: no C++ compiler")), (True, False, (0, "CI: the package index")), (True, True, (1, ""))],
)
def test_ci_leaves_fairseq_out_only_where_it_cannot_be(
    compiler: bool, offered: bool, expected: tuple[int, str], tmp_path: Path
) -> None:
    """With a ``make`` for which only fairseq fails."""
    commands = {
        "bin/make": '[ "${1#fairseq}" = "$1" ]',
        "bin/chromium": "true",
        ".venv/bin/python": "true" if offered else "false",
    }
    commands |= {"bin/g++": "true"} if compiler else {}
    for name, command in commands.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{command}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "bin" / "dirname").symlink_to(str(shutil.which("dirname")))
    (tmp_path / ".ci").mkdir()
    script = shutil.copy(Path(__file__).parents[1] / ".ci" / "run", tmp_path / ".ci")
    done = subprocess.run(
        [str(shutil.which("bash")), script], env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout[: len(expected[1])]) == expected


def test_without_fairseq_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def surroundings() -> tuple[Any, ...]:
        root = logging.getLogger()
        return dataclasses.dataclass, root.level, list(root.handlers), root.manager.disable

    monkeypatch.setitem(sys.modules, "fairseq", None)
    before = surroundings()
    with pytest.raises(UsageError, match=r"'smcbench\[fairseq\]', then: pip install --no-deps fairseq==0.12.2"):
        fairseq.twin(csqa.tiny().build_model())
    assert surroundings() == before
