"""Commonsense and GLUE: the same examples by every path, splits, formats, models, losses, and bad data."""

from __future__ import annotations

import dataclasses
import gzip
import json
import lzma
import random
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from corpora import a_small_world, csqa_rows, jsonl, needs_data, race_members, tar, tsv, winogrande_rows

import smcbench
from smcbench import plugins, sources
from smcbench.errors import InvalidInput, UsageError
from smcbench.session import Session, build_model
from smcbench.sources import Dataset
from smcbench_tasks import _text, commonsense, glue
from smcbench_tasks._text import Encoder, Tokens, _sequence, pack

REAL = [*commonsense.CORPORA.values(), *glue.CORPORA.values()]
REAL = [corpus for corpus in REAL if corpus.dataset is not None]
SMALL = Encoder("bert", 4096, 16, 1, 2, 32, 64, dropout=0.0)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of made-up data sets, and a cache of its own."""
    a_small_world(tmp_path / "data")
    monkeypatch.setenv("SMCBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SMCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "data"


# -- the same examples by every path


def _as_hub(dataset: Dataset, split: str) -> Any:
    """What the hub's copy holds: the local files through ``datasets``, with the hub's columns and labels."""
    folder = sources.root_of(sources.DATA) / dataset.name  # type: ignore[operator]

    def loaded(kind: str, name: str, **options: Any) -> Any:
        path = next(path for path in folder.iterdir() if path.name.startswith(f"{name}."))
        return datasets.load_dataset(kind, data_files=str(path), split="train", **options)

    name = dataset.name.rpartition("/")[2]
    if name == "commonsense_qa":
        file = {"train": "train_rand_split", "validation": "dev_rand_split"}[split]
        return loaded("json", file).map(
            lambda row: {
                "question": row["question"]["stem"],
                "choices": {key: [c[key] for c in row["question"]["choices"]] for key in ("label", "text")},
            }
        )
    if name == "winogrande":
        size = dataset.hub.config.removeprefix("winogrande_")  # type: ignore[union-attr]
        return loaded("json", f"train_{size}" if split == "train" else "dev").remove_columns("qID")
    if name == "race":
        wanted = {"train": "train", "validation": "dev", "test": "test"}[split]
        rows = [
            {"example_id": row["id"], "article": row["article"], "question": q, "options": o, "answer": a}
            for key, row in race_members().items()
            if key.split("/")[1] == wanted
            for q, o, a in zip(row["questions"], row["options"], row["answers"], strict=True)
        ]
        return datasets.Dataset.from_list(sorted(rows, key=lambda row: row["example_id"], reverse=True))
    kind = glue.SETS[{"CoLA": "cola", "SST-2": "sst-2", "STS-B": "sts-b"}.get(name, name.lower())]
    file = {"validation": "dev", "validation_matched": "dev_matched", "validation_mismatched": "dev_mismatched"}
    header = {"column_names": list(kind.header)} if kind.header else {}
    table = loaded("csv", file.get(split, split), sep="\t", quoting=3, keep_default_na=False, **header)
    *columns, label = kind.local

    def converted(row: dict[str, Any]) -> dict[str, Any]:
        value = float(row[label]) if kind.labels is None else kind.labels.index(str(row[label]))
        return {**{hub: row[column] for hub, column in zip(kind.texts, columns, strict=True)}, "label": value}

    return datasets.Dataset.from_list([converted(row) for row in table])


def _same_by_both(corpus: _text.Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    local = corpus.read()

    def rows(self: Dataset, split: str) -> Any:
        return (sources.Located(f"row {i}", row) for i, row in enumerate(_as_hub(self, split)))

    monkeypatch.setattr(Dataset, "rows", rows)
    monkeypatch.setattr(Dataset, "state", lambda self: "hub")
    assert corpus.read() == local


@pytest.mark.parametrize("corpus", REAL, ids=lambda corpus: corpus.name)
def test_local_files_and_the_hub_give_the_same_examples(
    corpus: _text.Corpus, world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    _same_by_both(corpus, monkeypatch)


@needs_data
@pytest.mark.parametrize("name", ["cola", "mrpc", "sts-b", "rte", "wnli", "csqa", "winogrande-l"])
def test_real_files_and_the_hub_give_the_same_examples(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    _same_by_both({**commonsense.CORPORA, **glue.CORPORA}[name], monkeypatch)


@pytest.mark.parametrize("pack_it", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_packed_files_are_read_too(world: Path, pack_it: Any) -> None:
    path = world / "glue/RTE/train.tsv"
    before = glue.CORPORA["rte"].read()
    path.with_name(f"train.tsv.{'gz' if pack_it is gzip.compress else 'xz'}").write_bytes(pack_it(path.read_bytes()))
    path.unlink()
    assert glue.CORPORA["rte"].read() == before


# -- splits

PUBLISHED = {
    "cola": (8551, 1043), "sst-2": (67349, 872), "mrpc": (3668, 408), "sts-b": (5749, 1500), "rte": (2490, 277),
    "wnli": (635, 71), "csqa": (9741, 1221), "winogrande-l": (10234, 1267),
}  # fmt: skip


@needs_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_real_splits_have_the_published_sizes(name: str) -> None:
    found = {**commonsense.CORPORA, **glue.CORPORA}[name].read()
    train, test = PUBLISHED[name]
    assert len(found["train"]) + len(found["validation"]) == train
    assert len(found["validation"]) == min(1000, train // 10)
    assert len(found["test"]) == test
    ids = [example.id for split in found.values() for example in split]
    assert len(set(ids)) == len(ids)


@needs_data
def test_mnli_small_is_cut_by_premise() -> None:
    found = glue.CORPORA["mnli-small"].read()
    assert {split: len(examples) for split, examples in found.items()} == {
        "train": 7815, "validation": 1000, "test": 1000
    }  # fmt: skip
    premises = {split: {example.texts[0][0] for example in examples} for split, examples in found.items()}
    assert not premises["train"] & premises["test"]
    assert not premises["train"] & premises["validation"]
    assert not premises["validation"] & premises["test"]


@needs_data
def test_race_is_middle_and_high_and_small_takes_4000() -> None:
    found = commonsense.CORPORA["race"].read()
    levels = Counter((split, e.id.split("/")[2][:4]) for split, examples in found.items() for e in examples)
    assert levels["test", "midd"] == 1436
    assert levels["test", "high"] == 3498
    assert levels["validation", "midd"] + levels["validation", "high"] == 4887
    chosen = _text._some(found["train"], 4000)
    assert len(chosen) == 4000
    shuffled = random.Random(1).sample(list(found["train"]), len(found["train"]))
    assert _text._some(shuffled, 4000) == chosen


def test_twins_stay_together(world: Path) -> None:
    found = commonsense.CORPORA["winogrande-l"].read()
    options = {split: {e.texts[0][1] for e in examples} for split, examples in found.items()}
    assert len(found["validation"]) == 4
    assert not options["train"] & options["validation"]


# -- formats


def test_a_gap_is_cut_out_with_its_space(world: Path) -> None:
    first = commonsense.CORPORA["winogrande-l"].read()["test"][0]
    assert first.texts == (("Ann 0 called Bob because", " Ann 0", " was well."),
                           ("Ann 0 called Bob because", " Bob 0", " was well."))  # fmt: skip
    assert first.label == 0
    joined = commonsense.CORPORA["winogrande-l-joined"].read()["test"][0]
    assert joined.texts[1] == ("Ann 0 called Bob because", " Bob 0 was well.")


def test_race_options_go_into_the_gap_or_after_the_question(world: Path) -> None:
    found = {e.id: e for e in commonsense.CORPORA["race"].read()["test"]}
    assert found["race/test/high2/0"].texts[0] == ("It rained .", "Passage test high 2. It rained.")
    assert found["race/test/high2/1"].texts[2] == ("What did it do? c", "Passage test high 2. It rained.")
    assert found["race/test/high2/1"].label == 2


def test_sequences_of_one_two_and_three_texts() -> None:
    tokens = Tokens(lambda texts: [], (0, 1, 2, 3), "")
    assert _sequence([[7, 8]], tokens, "single", 9) == ([1, 7, 8, 2], (4, 4))
    assert _sequence([[7, 8], [9]], tokens, "single", 9) == ([1, 7, 8, 2, 9, 2], (4, 6))
    assert _sequence([[7, 8], [9]], tokens, "double", 9) == ([1, 7, 8, 2, 2, 9, 2], (5, 7))
    assert _sequence([[7], [8, 9], [6]], tokens, "single", 9) == ([1, 7, 8, 9, 6, 2], (2, 4))


@pytest.mark.parametrize("longest", range(7, 15))
def test_the_longer_text_is_cut_first(longest: int) -> None:
    tokens = Tokens(lambda texts: [], (0, 1, 2, 3), "")
    for sizes in ((9, 2), (2, 9), (6, 6), (3, 3)):
        first, second = list(range(10, 10 + sizes[0])), list(range(30, 30 + sizes[1]))
        one, two = list(first), list(second)
        while len(one) + len(two) + 3 > longest:  # the rule, one token at a time
            (one if len(one) >= len(two) else two).pop()
        row, span = _sequence([list(first), list(second)], tokens, "single", longest)
        assert len(row) == min(longest, sum(sizes) + 3)
        kept = (row[1 : span[0] - 1], row[span[0] : span[1] - 1])
        assert abs(len(kept[0]) - len(one)) <= 1  # a tie may fall either way
        assert (first[: len(kept[0])], second[: len(kept[1])]) == kept


def test_tokens_are_the_tokenizers_own(tmp_path: Path) -> None:
    """Our sequences against transformers' tokenizer over the same tokenizer.json."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        w: i for i, w in enumerate(["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "the", "cat", "sat", "##s"])
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    folder = tmp_path / "some/model"
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}")
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer)(
        "The cats sat", "sat the dog", return_token_type_ids=True
    )
    checkpoint = sources.Checkpoint("some/model", "0" * 40, "MIT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMCBENCH_MODELS", str(tmp_path))
        tokens = Tokens.of(checkpoint, "bert")
    arrays = pack([_text.Example("a", (("The cats sat", "sat the dog"),), 0)], tokens, "single", 64)
    assert arrays["tokens"].tolist() == theirs["input_ids"]
    start, stop = arrays["spans"][0]
    assert [int(start <= i < stop) for i in range(len(arrays["tokens"]))] == theirs["token_type_ids"]
    assert (tokens.pad, tokens.begin, tokens.end, tokens.mask) == (0, 1, 2, 3)


def test_batches_pad_to_their_longest_and_keep_the_spans() -> None:
    task = commonsense.csqa_mini.tiny()
    examples = list(task.data("train")[:4])
    batch = task.collate(examples)
    longest = max(len(row) for e in examples for row in e.sequences)
    assert batch["tokens"].shape == (4, 5, longest)
    for i, example in enumerate(examples):
        for j, (row, (start, stop)) in enumerate(zip(example.sequences, example.spans, strict=True)):
            assert batch["tokens"][i, j, : len(row)].tolist() == list(row)
            assert batch["real"][i, j].sum() == len(row)
            assert batch["inside"][i, j].nonzero()[:, 0].tolist() == list(range(start, stop))


# -- models and losses

COUNTS = {
    "csqa": 355_360_769, "race": 355_360_769,  # RobertaForMultipleChoice; the paper says 355 M
    "winogrande": 355_412_057,  # RobertaForMaskedLM with its tied head
    "cola": 109_483_778, "mnli": 109_484_547, "sts-b": 109_483_009,  # BERT-base: 110 M
    "csqa-small": 22_713_601, "cola-small": 22_713_986,  # MiniLM-L6: 22.7 M
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_models_have_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = plugins.load_task(name).architecture()
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]


def test_scopes_by_hand() -> None:
    """A BERT block has 4 w^2 + 2 w f prunable weights; ``all`` adds embeddings, pooler and classifier."""
    for task, width, inner, layers in ((glue.cola, 768, 3072, 12), (commonsense.csqa, 1024, 4096, 24)):
        with torch.device("meta"):
            model = task.architecture()
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        blocks = layers * (4 * width**2 + 2 * width * inner)
        for scope in ("encoder", "all"):
            found = sum(sizes[name] for name in dataclasses.replace(task, scope=scope).prunable(model))
            tables = sum(sizes[name] for name in sizes if "embeddings" in name and "LayerNorm" not in name)
            if task is commonsense.csqa:
                tables -= width  # fairseq's RoBERTa has no segment embedding
            head = sum(n for name, n in sizes.items() if name.endswith(("pooler.dense.weight", "classifier.weight")))
            assert found == blocks + (tables + head if scope == "all" else 0)


def test_the_margin_of_winogrande() -> None:
    """-q + 5 max(0, c - q + .4), by hand for two examples."""
    task = commonsense.winogrande
    scores = torch.tensor([[-1.0, -1.2], [-2.0, -0.5]])
    batch = {"label": torch.tensor([0, 0])}
    total, count = task.loss(commonsense.Outputs(scores), batch)
    assert count == 2
    assert total.item() == pytest.approx((1.0 + 5 * 0.2) + (2.0 + 5 * 1.9))


def test_span_scores_are_mean_log_probabilities_of_the_masked_words() -> None:
    """Against transformers' whole masked-LM output, one choice at a time."""
    task = commonsense.winogrande.tiny()
    torch.manual_seed(0)
    model = task.build_model().eval()
    examples = list(task.data("test")[:3])
    with torch.no_grad():
        ours = task.forward(model, task.collate(examples)).logits
        for i, example in enumerate(examples):
            for j, (row, (start, stop)) in enumerate(zip(example.sequences, example.spans, strict=True)):
                masked = torch.tensor([list(row)])
                masked[0, start:stop] = task._ready().mask
                logits = model(input_ids=masked).logits[0].log_softmax(-1)
                expected = sum(logits[at, row[at]].item() for at in range(start, stop)) / (stop - start)
                assert ours[i, j].item() == pytest.approx(expected, abs=1e-5)


def test_choices_are_ranked_by_transformers_own_forward() -> None:
    task = commonsense.race_mini.tiny()
    torch.manual_seed(0)
    model = task.build_model().eval()
    example = task.data("test")[0]
    with torch.no_grad():
        ours = task.forward(model, task.collate([example])).logits[0]
        for j, (row, (start, stop)) in enumerate(zip(example.sequences, example.spans, strict=True)):
            types = torch.tensor([[[int(start <= i < stop) for i in range(len(row))]]])
            alone = model(input_ids=torch.tensor([[list(row)]]), token_type_ids=types).logits[0, 0]
            assert ours[j].item() == pytest.approx(alone.item(), abs=1e-5)


def test_losses_are_those_of_torch() -> None:
    logits, label = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    total, count = glue.mnli.loss(glue_outputs(logits), {"label": label})
    assert (total / count).item() == pytest.approx(F.cross_entropy(logits, label).item())
    total, count = glue.sts_b.loss(glue_outputs(logits[:, :1]), {"label": label.float()})
    assert (total / count).item() == pytest.approx(F.mse_loss(logits[:, 0], label.float()).item())


def glue_outputs(logits: torch.Tensor) -> Any:
    return commonsense.Outputs(logits)


# -- metrics


def test_metrics_are_glues_own() -> None:
    """Hand computation of Matthews and F1 from the four counts; rank correlation from its formula."""
    from smcbench_tasks import _metrics

    labels, given = [1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 1, 0, 1]
    tp, tn, fp, fn = 3, 3, 1, 1
    expected = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert _metrics.matthews(labels, given) == pytest.approx(100 * expected)
    assert _metrics.f1(labels, given) == pytest.approx(100 * 2 * tp / (2 * tp + fp + fn))
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    assert _metrics.spearman(x, y) == pytest.approx(100 * (1 - 6 * 4 / (5 * 24)))
    assert _metrics.pearson(x, y) == pytest.approx(100 * np.corrcoef(x, y)[0, 1])


def test_mnli_reports_mismatched_genres_apart(world: Path) -> None:
    task = dataclasses.replace(glue.mnli, encoder=SMALL)
    data = task.data("test")
    right = [key.split("/")[1] == "m" for key in data.ids]
    given = [label if ok else (label + 1) % 3 for label, ok in zip(data.labels, right, strict=True)]
    assert task.score("test", given) == {"accuracy": 100.0, "accuracy/mm": 0.0}


def test_race_reports_levels_apart(world: Path) -> None:
    task = dataclasses.replace(commonsense.race, encoder=dataclasses.replace(SMALL, kind="roberta"))
    data = task.data("test")
    given = [label if "middle" in key else 3 for key, label in zip(data.ids, data.labels, strict=True)]
    assert task.score("test", given) == {"accuracy": 50.0, "accuracy/middle": 100.0, "accuracy/high": 0.0}


def test_majority_is_what_a_constant_answer_scores(world: Path) -> None:
    task = dataclasses.replace(glue.mrpc, encoder=SMALL)
    most = Counter(task.labels("train")).most_common(1)[0][0]
    share = 100 * sum(label == most for label in task.labels("test")) / len(task.labels("test"))
    assert task.majority()["accuracy"] == pytest.approx(share)


# -- pretrained weights


def _saved(folder: Path, encoder: Encoder) -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=encoder.vocabulary, hidden_size=encoder.width, num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.heads, intermediate_size=encoder.inner, max_position_embeddings=encoder.positions,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """A small checkpoint in a local folder, under a name that the family knows."""
    known = sources.Checkpoint("some/bert", "0" * 40, "MIT")
    monkeypatch.setitem(_text.CHECKPOINTS, "some/bert", known)
    monkeypatch.setenv("SMCBENCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = dataclasses.replace(SMALL, checkpoint="some/bert")
    _saved(tmp_path / "models/some/bert", encoder)
    return encoder


def test_the_encoder_is_the_checkpoints_and_the_head_the_seeds(checkpoint: Encoder, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    stored = load_file(tmp_path / "models/some/bert/model.safetensors")
    torch.manual_seed(1)
    one = checkpoint.build("choices", 1)
    torch.manual_seed(2)
    two = checkpoint.build("choices", 1)
    for name, tensor in stored.items():
        assert torch.equal(one.state_dict()[f"bert.{name}"], tensor), name
        assert torch.equal(two.state_dict()[f"bert.{name}"], tensor), name
    assert not torch.equal(one.classifier.weight, two.classifier.weight)
    assert one.training


def test_a_checkpoint_that_does_not_fill_the_model_is_refused(checkpoint: Encoder, tmp_path: Path) -> None:
    deeper = dataclasses.replace(checkpoint, layers=2)
    with pytest.raises(InvalidInput, match=r"does not fill the model: bert\.encoder\.layer\.1"):
        deeper.build("choices", 1)
    with pytest.raises(InvalidInput, match="does not fill the model: cls"):
        checkpoint.build("words", 1)


def test_torn_files_of_a_checkpoint_are_one_line(checkpoint: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "models/some/bert"
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InvalidInput, match=r"some/bert: cannot be read as some/bert \(SafetensorError") as caught:
        checkpoint.build("classes", 2)
    assert "\n" not in str(caught.value)
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordPiece", "vo')
    with pytest.raises(InvalidInput, match=r"tokenizer\.json: cannot be read as a tokenizer .*; fetch it") as caught:
        Tokens.of(_text.CHECKPOINTS["some/bert"], "bert")
    assert "\n" not in str(caught.value)


def test_other_weights_under_a_known_name_are_refused(checkpoint: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    known = dataclasses.replace(_text.CHECKPOINTS["some/bert"], sha256="0" * 64)
    monkeypatch.setitem(_text.CHECKPOINTS, "some/bert", known)
    with pytest.raises(InvalidInput, match="not the weights of some/bert@00000000"):
        checkpoint.build("classes", 2)


def test_a_missing_checkpoint_is_never_random(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMCBENCH_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidInput, match=r"pretrained model FacebookAI/roberta-large is missing.*SMCBENCH_MODELS"):
        commonsense.csqa.build_model()
    scratch = commonsense.csqa.variant("scratch")
    assert scratch.name == "csqa@scratch"
    assert not scratch.pretrained
    with pytest.raises(UsageError, match="has no variant 'sparse'; it has encoder, scratch"):
        plugins.load_task("csqa@sparse")


def test_a_sparse_checkpoint_keeps_its_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session starts under the mask of the checkpoint's non-zeros, and training keeps it."""
    from safetensors.torch import load_file, save_file

    known = sources.Checkpoint("some/sparse", "main", "MIT", sparse=True)
    monkeypatch.setitem(_text.CHECKPOINTS, "some/sparse", known)
    monkeypatch.setenv("SMCBENCH_MODELS", str(tmp_path / "models"))
    task = glue.cola.tiny()
    task = dataclasses.replace(task, encoder=dataclasses.replace(task.encoder, checkpoint="some/sparse"))
    folder = tmp_path / "models/some/sparse"
    _saved(folder, task.encoder)
    tensors = load_file(folder / "model.safetensors")
    draw = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        if "encoder.layer" in name and name.endswith("dense.weight"):
            tensor[torch.rand(tensor.shape, generator=draw) < 0.9] = 0
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert task.starts_sparse
    session = Session(task, build_model(task, 0), task.recipe)
    zeros = {name: weight == 0 for name, weight in session.weights.items()}
    start = session.mask
    assert 0.5 < start.sparsity < 0.9
    session.train()
    for name, weight in session.weights.items():
        assert bool((weight[zeros[name]] == 0).all())
    assert session.mask == start
    assert session.conduct.peak_density == start.density
    transfer = smcbench.run(task, "omp-before", start.sparsity)  # keeps what is there: the checkpoint's own mask
    assert transfer.sparsity.kept == start.kept
    assert transfer.category.start == "sparse-to-sparse"
    assert smcbench.run(task, "dense", 0.0).conduct.peak_density == 1.0
    assert task.identity()["weights"] == known.digest()


# -- what is wrong with data


def _broken(kind: str, data: Path) -> str:
    """Break a file; gives the corpus that reads it."""
    rte, csqa = data / "glue/RTE", data / "commonsense/commonsense_qa"
    if kind == "fields":
        rte.joinpath("train.tsv").open("a").write("41\tone\n")
    elif kind == "column":
        text = rte.joinpath("train.tsv").read_text()
        rte.joinpath("train.tsv").write_text(text.replace("sentence2", "sentence3", 1))
    elif kind == "label":
        rte.joinpath("dev.tsv").open("a").write("99\tone\ttwo\tmaybe\n")
    elif kind == "encoding":
        rte.joinpath("dev.tsv").open("ab").write(b"99\tone \xff\ttwo\tentailment\n")
    elif kind == "empty":
        tsv(rte / "dev.tsv", ["index", "sentence1", "sentence2", "label"], [])
    elif kind == "torn":
        packed = gzip.compress((rte / "train.tsv").read_bytes())
        rte.joinpath("train.tsv").unlink()
        rte.joinpath("train.tsv.gz").write_bytes(packed[: len(packed) // 2])
    elif kind == "missing":
        rte.joinpath("dev.tsv").unlink()
    elif kind == "number":
        tsv(data / "glue/STS-B/dev.tsv", ["index", "sentence1", "sentence2", "score"], [[0, "a", "b", "much"]])
        return "sts-b"
    elif kind == "range":
        tsv(data / "glue/STS-B/dev.tsv", ["index", "sentence1", "sentence2", "score"], [[0, "a", "b", "5.5"]])
        return "sts-b"
    elif kind == "json":
        csqa.joinpath("train_rand_split.jsonl").open("a").write("{nonsense\n")
    elif kind == "choices":
        row = csqa_rows(1)[0]
        row["question"]["choices"].pop()
        jsonl(csqa / "dev_rand_split.jsonl", [row])
    elif kind == "order":
        row = csqa_rows(1)[0]
        row["question"]["choices"].reverse()
        jsonl(csqa / "dev_rand_split.jsonl", [row])
    elif kind == "null":
        row = csqa_rows(1)[0]
        row["question"]["choices"][2]["text"] = None
        jsonl(csqa / "dev_rand_split.jsonl", [row])
    elif kind == "option":
        jsonl(data / "commonsense/winogrande/dev.jsonl", [{**winogrande_rows(1)[0], "option1": ""}])
        return "winogrande-l"
    elif kind == "options":
        members = race_members()
        members["RACE/dev/high/0.txt"]["options"] = [[5] * 4] * 2
        tar(data / "commonsense/race/RACE.tar", members)
        return "race"
    elif kind == "cut":  # between two members, where tarfile sees an end
        path = data / "commonsense/race/RACE.tar"
        path.write_bytes(path.read_bytes()[:1024])
        return "race"
    elif kind == "answer":
        jsonl(csqa / "dev_rand_split.jsonl", [{**csqa_rows(1)[0], "answerKey": "F"}])
    elif kind == "stem":
        jsonl(csqa / "dev_rand_split.jsonl", [{**csqa_rows(1)[0], "question": {"choices": []}}])
    elif kind == "gap":
        jsonl(data / "commonsense/winogrande/dev.jsonl", [{**winogrande_rows(1)[0], "sentence": "no gap"}])
        return "winogrande-l"
    elif kind == "tar":
        path = data / "commonsense/race/RACE.tar"
        path.write_bytes(path.read_bytes()[:700])
        return "race"
    elif kind == "passage":
        tar(data / "commonsense/race/RACE.tar", {**race_members(), "RACE/dev/high/9.txt": {"article": "x"}})
        return "race"
    return "rte" if kind in ("fields", "column", "label", "encoding", "empty", "torn", "missing") else "csqa"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("fields", r"RTE/train.tsv:42: has 2 fields, it must have 4"),
        ("column", r"RTE/train.tsv:2: has no column 'sentence2', only index, sentence1, sentence3, label"),
        ("label", r"RTE/dev.tsv:14: 'label' is 'maybe', it must be one of 'entailment', 'not_entailment'"),
        ("encoding", r"RTE/dev.tsv:14: not UTF-8 text"),
        ("empty", r"corpus rte: the split 'test' is empty"),
        ("torn", r"RTE/train.tsv.gz: a torn archive; fetch it again"),
        ("missing", r"data set glue/RTE is missing.*put train.tsv, dev.tsv \(from https://gluebenchmark.com/tasks\)"),
        ("number", r"STS-B/dev.tsv:2: 'score' is 'much', not a number"),
        ("range", r"STS-B/dev.tsv:2: 'label' is 5.5, it must lie in \[0, 5\]"),
        ("json", r"train_rand_split.jsonl:41: not valid JSON"),
        ("choices", r"dev_rand_split.jsonl:1: 'choices' must be 5 texts, not"),
        ("order", r"dev_rand_split.jsonl:1: choices are labelled .*, not A to E in turn"),
        ("null", r"dev_rand_split.jsonl:1: 'choices' has None, where there must be text"),
        ("option", r"dev.jsonl:1: 'option' has '', where there must be text"),
        ("options", r"RACE.tar:RACE/dev/high/0.txt: 'options' has 5, where there must be text"),
        ("cut", r"RACE.tar: a torn archive; fetch it again"),
        ("answer", r"dev_rand_split.jsonl:1: 'answerKey' is 'F'"),
        ("stem", r"dev_rand_split.jsonl:1: not a row of CommonsenseQA \(id, answerKey"),
        ("gap", r"winogrande/dev.jsonl:1: 'sentence' has no gap '_'"),
        ("tar", r"RACE.tar: a torn archive"),
        ("passage", r"RACE.tar:RACE/dev/high/9.txt: not a passage of RACE"),
    ],
)
def test_bad_data_is_one_clear_line_and_leaves_no_cache(kind: str, message: str, world: Path) -> None:
    name = _broken(kind, world)
    tasks = (glue.rte, glue.sts_b, commonsense.csqa_small, commonsense.winogrande_small, commonsense.race)
    task = next(task for task in tasks if task.source.startswith(name))
    with pytest.raises(InvalidInput, match=message) as caught:
        dataclasses.replace(task, encoder=SMALL).data("train")
    assert "\n" not in str(caught.value)
    cache = world.parent / "cache"
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_qqp_may_have_upstreams_own_broken_rows(world: Path) -> None:
    path = world / "glue/QQP/train.tsv"
    rows = path.read_text()
    path.write_text(rows + "a\tb\n" * 3)
    assert len(glue.CORPORA["qqp"].read()["train"]) == 36
    path.write_text(rows + "a\tb\n" * 4)
    with pytest.raises(InvalidInput, match=r"QQP/train.tsv:45: has 2 fields"):
        glue.CORPORA["qqp"].read()


def test_a_hub_that_does_not_answer_is_one_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_down", [])
    monkeypatch.delenv("SMCBENCH_DATA")
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def silent(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", silent)
    with pytest.raises(InvalidInput, match=r"glue/RTE is missing: the hub did not answer.*SMCBENCH_DATA") as caught:
        glue.CORPORA["rte"].read()
    assert "\n" not in str(caught.value)


# -- the cache


def test_the_cache_is_used_and_follows_the_source(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = dataclasses.replace(glue.rte, encoder=dataclasses.replace(SMALL, checkpoint="some/bert", pretrained=False))
    known = sources.Checkpoint("some/bert", "0" * 40, "MIT")
    monkeypatch.setitem(_text.CHECKPOINTS, "some/bert", known)
    tokens = Tokens(lambda texts: [[7] * len(text.split()) for text in texts], (0, 1, 2, 3), "made up")
    monkeypatch.setattr(Tokens, "of", lambda *_: tokens)
    _text._ready.cache_clear()
    first, digest = task.data("train"), task.digest()
    _text._ready.cache_clear()
    monkeypatch.setattr(_text, "pack", lambda *_: pytest.fail("tokenised again"))
    again = task.data("train")
    assert again.ids == first.ids
    assert isinstance(again._tokens, np.memmap)
    assert task.digest() == digest
    monkeypatch.undo()


def test_the_digest_follows_the_examples_not_the_packing(world: Path) -> None:
    task = dataclasses.replace(glue.rte, encoder=SMALL)
    before = task.digest()
    path = world / "glue/RTE/train.tsv"
    path.with_name("train.tsv.gz").write_bytes(gzip.compress(path.read_bytes()))
    text = path.read_text()
    path.unlink()
    _text._ready.cache_clear()
    assert task.digest() == before
    path.write_text(text.replace("one 7", "one seven"))
    _text._ready.cache_clear()
    assert task.digest() != before


@needs_data
def test_published_files_are_known_by_their_digest() -> None:
    from smcbench_tasks._datasets import dataset

    for key in ("cola", "rte", "wnli", "csqa", "sst2"):
        verdicts = dataset(key).verify()
        assert verdicts
        for verdict in verdicts:
            assert verdict.known, verdict
            counted = verdict.text.split(" ")
            assert counted[0] == counted[2], verdict  # all rows are there


def test_recipes_all_say_where_they_are_from() -> None:
    from smcbench_tasks import _recipes

    for name, (_, source) in _recipes._all().items():
        assert len(source) > 20, name
    for name in plugins.installed("tasks"):
        task = plugins.load_task(name)
        assert _recipes.source_of(task.recipe) != "changed from the task's own", name


def test_the_paper_tables_by_hand() -> None:
    """The figures of SMC-Bench's table, as read there."""
    for task, steps, rise, batch in (
        (commonsense.csqa, 3000, 150, 16),
        (commonsense.winogrande, 23750, 2375, 32),
        (commonsense.race, 3 * (87866 // 16), 500, 16),
    ):
        recipe = task.recipe
        assert (recipe.steps, recipe.at(recipe.warmup), recipe.batch_size) == (steps, rise, batch)
        assert (recipe.lr, recipe.betas, recipe.eps, recipe.weight_decay) == (1e-5, (0.9, 0.98), 1e-6, 0.01)
        assert recipe.clip is None
        assert json.dumps(recipe.schedule) == '"linear"'
        assert task.encoder.dropout == 0.1


def test_other_weights_under_the_same_name_are_another_task(checkpoint: Encoder, world: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    known = _text.CHECKPOINTS["some/bert"]
    before = known.digest()
    path = tmp_path / "models/some/bert/model.safetensors"
    tensors = load_file(path)
    tensors["embeddings.word_embeddings.weight"] += 1
    save_file(tensors, path, {"format": "pt"})
    assert known.digest() != before


def test_the_option_of_race_is_cut_before_the_passage() -> None:
    tokens = Tokens(lambda texts: [], (0, 1, 2, 3), "")
    row, (start, stop) = _sequence([[7] * 200, [8] * 600], tokens, "double", 512, 128)
    assert row[:129] == [1, *[7] * 127, 2]
    assert (start, stop, len(row)) == (130, 512, 512)


def test_mismatched_genres_beside_do_not_change_mnli_small(world: Path) -> None:
    task = dataclasses.replace(glue.mnli_small, encoder=SMALL)
    before, size = task.digest(), len(task.data("test"))
    (world / "glue/MNLI/dev_mismatched.tsv").unlink()
    _text._ready.cache_clear()
    assert task.digest() == before
    assert len(task.data("test")) == size - 42


def test_what_was_prepared_from_the_hub_runs_offline(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = dataclasses.replace(glue.rte, encoder=dataclasses.replace(SMALL, checkpoint="some/bert"))
    monkeypatch.setitem(_text.CHECKPOINTS, "some/bert", sources.Checkpoint("some/bert", "0" * 40, "MIT"))
    tokens = Tokens(lambda texts: [[7] * len(text.split()) for text in texts], (0, 1, 2, 3), "made up")
    monkeypatch.setattr(Tokens, "of", lambda *_: tokens)
    with monkeypatch.context() as online:
        online.delenv("HF_HUB_OFFLINE")
        online.setattr(Dataset, "state", lambda self: "hub")
        online.setattr(
            Dataset, "rows",
            lambda self, split: (sources.Located(f"row {i}", row) for i, row in enumerate(_as_hub(self, split))),
        )  # fmt: skip
        _text._ready.cache_clear()
        there = task.data("train").ids
    monkeypatch.setenv("SMCBENCH_DATA", "")
    _text._ready.cache_clear()
    assert task.data("train").ids == there
