"""Proteins: files and what can be wrong in them, splits, models, the two learning rates, and backbones."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gzip
import math
import pickle
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import needs_data

from smcbench import files, plugins
from smcbench.errors import InvalidInput
from smcbench.session import Session, build_model
from smcbench.sources import Contents
from smcbench_tasks import _inverse_folding, _protein_encoders, _protein_sets, _rows, _sequences, protein
from smcbench_tasks._inverse_folding import Backbone, Folded, Sizes
from smcbench_tasks._protein_encoders import Encoder

NAMES = (
    "hp-s-tape", "hp-s-esm1b", "hp-s2c2-esm1b", "meltome-esm1b", "hp-s2c5-if1", "thermoprot-small", "bertthermo-small",
    "fireprotdb-small", "lattice-protein-mini", "lattice-tm-mini",
)  # fmt: skip


def contents(text: str | bytes, name: str = "a.fasta") -> Contents:
    return Contents(name, text.encode() if isinstance(text, str) else text)


def one_line(error: pytest.ExceptionInfo[InvalidInput]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# -- files


def test_fasta_is_read_over_lines_and_named_by_its_header() -> None:
    rows = list(_sequences.fasta(contents(">one |1\nMK\nja\n\n>two\r\nGGX\r\n")))
    assert rows == [("a.fasta:1", "one |1", "MKXA"), ("a.fasta:5", "two", "GGX")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.fasta: has no protein"),
        ("MK\n>one\nMK", "a.fasta:1: must be a header"),
        (">one\n>two\nMK", "a.fasta:1: the sequence is empty"),
        (">one\nMK\n>two\n", "a.fasta:3: the sequence is empty"),
        (">one\nMK\n>two\nM*K", "a.fasta:3: residue 2 is '*', which is no amino acid"),
        (b">one\nM\xffK", "a.fasta:2: not UTF-8 text"),
    ],
)
def test_bad_fasta_is_named_by_file_and_line(text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        list(_sequences.fasta(contents(text)))
    assert one_line(error).startswith(message)


def test_csv_must_have_its_columns_and_numbers() -> None:
    rows = list(_rows.comma_separated(contents('a,b\n1,"x,y"\n2,z\n', "a.csv"), ("a", "b")))
    assert [(r.where, r.row) for r in rows] == [("a.csv:2", {"a": "1", "b": "x,y"}), ("a.csv:3", {"a": "2", "b": "z"})]
    assert _rows.number_in(rows[1], "a") == 2
    for text, message in (("a\n1\n", "a.csv:1: has no column 'b'"), ("a,b\n1\n", "a.csv:2: has 1 fields")):
        with pytest.raises(InvalidInput) as error:
            list(_rows.comma_separated(contents(text, "a.csv"), ("a", "b")))
        assert one_line(error).startswith(message)
    with pytest.raises(InvalidInput, match=r"a.csv:3: 'b' is 'z', it must be a number"):
        _rows.number_in(rows[1], "b")


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def split(**changes: Any) -> dict[str, Any]:
    return {"train_names": ["a", "b"], "train_labels": [0, 4], "test_names": ["c"], "test_labels": [1.0], **changes}


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickled_split_is_read_as_plain_data(protocol: int) -> None:
    found = _sequences.split_of(contents(pickle.dumps(split(), protocol), "s.pkl"), 5)
    assert [(one.name, one.label) for one in found["train"]] == [("a", 0), ("b", 4)]
    assert [(one.name, one.label) for one in found["test"]] == [("c", 1)]


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    hostile = [
        pickle.dumps(split(train_names=[_Bomb(touched)])),
        pickle.dumps(_Bomb(touched)),
        b"cos\nsystem\n(S'touch " + str(touched).encode() + b"'\ntR.",
        pickle.dumps(np.array([_Bomb(touched)], dtype=object)),
        pickle.dumps(argparse.Namespace(a=1)),
        pickle.dumps(split(train_labels=np.array([0, 4]))),
        pickle.dumps(split(test_labels=[np.float64(1)]), 2),
        b"\x80\x02cnumpy\ndtype\n.",
        b"c_codecs\nencode\n}(X\x01\x00\x00\x00aK\x01ub.",  # a state for an allowed function
        pickle.dumps(split())[:-9],
        b"",
    ]
    for raw in hostile:
        with pytest.raises(InvalidInput) as error:
            _sequences.split_of(contents(raw, "s.pkl"), 5)
        assert one_line(error).startswith("s.pkl: not read: it ")
        assert "split.csv" in str(error.value)
    assert not touched.exists()


def test_a_small_pickle_takes_no_more_room_than_its_size() -> None:
    """A memo that begins far off, lists in lists, and a name that is a list of lists by reference."""
    bomb = b"\x80\x02Nr\xff\xff\xff\x0f."
    deep = b"(" + b"l(" * 50_000 + b"l" + b"a" * 50_000 + b"."
    tracemalloc.start()
    for raw, message in ((bomb, "it holds a memo 268435455"), (deep, "it holds more than 32 dicts")):
        with pytest.raises(InvalidInput, match=f"s.pkl: not read: {message}") as error:
            _sequences.split_of(contents(raw, "s.pkl"), 5)
        assert len(one_line(error)) < 300
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    nested: Any = "x" * 1000
    for _ in range(8):
        nested = [nested] * 10
    for changes in ({"train_names": ["a", nested]}, {"train_names": ["a", "b" * 10**6]}, {"test_labels": [nested]}):
        with pytest.raises(InvalidInput) as error:
            _sequences.split_of(contents(pickle.dumps(split(**changes)), "s.pkl"), 5)
        assert len(one_line(error)) < 300


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "../a", "a/b", "/etc/passwd", "a\\b", "a\0", "a\nb", "\ud800", "a" * 201]
)
def test_a_name_is_that_of_a_file_in_the_folder(name: str) -> None:
    texts = [contents(pickle.dumps(split(test_names=[name])), "s.pkl")]
    if name.isprintable():
        texts.append(contents(f'name,label,split\n"{name}",1,test\n', "split.csv"))
    for text in texts:
        with pytest.raises(InvalidInput, match=r"the name is .* it must be that of a file"):
            _sequences.split_of(text, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "s.pkl: must be a dict with a list train_labels"),
        ({"train_labels": [0]}, "s.pkl: train has 2 names and 1 labels"),
        ({"train_labels": [0, 5]}, "s.pkl train[1]: the label is 5, it must be one of 0 to 4"),
        ({"train_labels": [0, "hot"]}, "s.pkl train[1]: the label is 'hot'"),
        ({"train_names": ["a", "../b"]}, "s.pkl train[1]: the name is '../b'"),
        ({"train_labels": [0, 10**400]}, "s.pkl: not read: it holds other objects"),
        ({"test_names": ["a"]}, "s.pkl test[0]: a stands at s.pkl train[0] already"),
        ({"train_names": ["a", "a"]}, "s.pkl train[1]: a stands at s.pkl train[0] already"),
    ],
)
def test_a_bad_split_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        _sequences.split_of(contents(pickle.dumps(split(**changes)), "s.pkl"), 5)
    assert one_line(error).startswith(message)


def test_a_split_as_csv() -> None:
    found = _sequences.split_of(contents("name,label,split\na,0,train\nb,1,test\n", "split.csv"), 2)
    assert [(part, one.name, one.label) for part in found for one in found[part]] == [
        ("train", "a", 0),
        ("test", "b", 1),
    ]
    with pytest.raises(InvalidInput, match=r"split.csv:2: 'split' is 'dev'"):
        _sequences.split_of(contents("name,label,split\na,0,dev\n", "split.csv"), 2)
    with pytest.raises(InvalidInput, match=r"split.csv:3: a stands at split.csv:2 already"):
        _sequences.split_of(contents("name,label,split\na,0,train\na,1,train\n", "split.csv"), 2)


def atom(
    number: int, name: str, residue: str, place: tuple[float, float, float], chain: str = "A", alt: str = " "
) -> str:
    x, y, z = place
    return f"ATOM  {number:5d}  {name:<3s}{alt}ALA {chain}{residue:>4s}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 90.00"


def pdb(residues: int = 3, shift: float = 0) -> list[str]:
    lines = ["HEADER    TEST"]
    for i in range(residues):
        for j, name in enumerate(("N", "CA", "C", "O")):
            lines.append(atom(4 * i + j, name, str(i + 1), (i + 0.5 + shift, -j, 100.25)))
    return lines


def test_a_backbone_by_hand() -> None:
    lines = pdb()
    lines.insert(2, atom(98, "N", "1", (9, 9, 9), alt="B"))  # another place of the same atom
    lines += [atom(99, "CA", "1", (7, 7, 7), "B"), "TER", "ENDMDL", *pdb(5)]
    found = _sequences.backbone(contents("\n".join(lines), "a.pdb"))
    assert found.dtype == np.float32
    assert found.tolist() == [[[i + 0.5, -j, 100.25] for j in range(3)] for i in range(3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:1], "a.pdb: has no backbone of chain A"),
        (lambda lines: lines[:6] + lines[7:], "a.pdb:6: residue 2 of chain A has no CA"),
        (lambda lines: [line.replace("100.250", "  x    ") for line in lines], "a.pdb:2: the coordinates "),
        (lambda lines: [line.replace("100.250", "    nan") for line in lines], "a.pdb:2: the coordinates "),
    ],
)
def test_a_bad_backbone_is_named_by_file_and_line(change: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        _sequences.backbone(contents("\n".join(change(pdb())), "a.pdb"))
    assert one_line(error).startswith(message)


# -- data sets


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All protein data sets in upstream's formats, with a few rows each."""
    draw = np.random.default_rng(0)

    def sequence() -> str:
        return "".join(draw.choice(list("ACDEFGHIKLMNPQRSTVWY"), 30))

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    for name in _protein_sets.CLASSES:
        write(f"protein/thermoprot/{name}.fasta", "".join(f">Sequence {i}\n{sequence()}\n" for i in range(40)))
    for name, count in (("train", 40), ("test", 10)):
        rows = (f">sp|P{i}|{name}|{i % 2}\n{sequence()}\n" for i in range(count))
        write(f"protein/bertthermo/{name}.fasta", "".join(rows))
    for name in ("training/fireprot_train", "training/fireprot_val", "testing/fireprot_test"):
        lines = ["position,wild_type,mutation,ddG,sequence"]
        for i in range(12):
            text = sequence()
            lines.append(f"{i + 3},{text[i + 2]},{'A' if text[i + 2] != 'A' else 'G'},{i / 4},{text}")
        write(f"protein/fireprotdb-thermompnn/{name}.csv", "\n".join(lines) + "\n")
    lines = ["sequence,target,set,validation"]
    lines += [
        f"{sequence()},{40 + i},{'test' if i % 5 == 4 else 'train'},{'True' if i % 5 == 3 else ''}" for i in range(50)
    ]
    write("protein/meltome/mixed_split.csv", "\n".join(lines) + "\n")
    for key, folder, classes in (("HP-S", "S_target", 5), ("HP-S2C2", "d1_fasta_clean", 2), ("HP-S2C5", "d2_clean", 5)):
        names = [f"p{i}" for i in range(30)]
        made = {
            "train_names": names[:24], "train_labels": [i % classes for i in range(24)],
            "test_names": names[24:], "test_labels": [i % classes for i in range(6)],
        }  # fmt: skip
        pickled = {"HP-S": "S_target", "HP-S2C2": "d1_1", "HP-S2C5": "d2_1"}[key]
        root = tmp_path / "protein/hotprotein" / key
        root.mkdir(parents=True)
        (root / f"{pickled}_classification.pkl").write_bytes(pickle.dumps(made))
        for n, name in enumerate(names):
            if key == "HP-S2C5":
                write(f"protein/hotprotein/{key}/{folder}/{name}/unrelaxed_model_1_ptm.pdb", "\n".join(pdb(6, n)))
            else:
                write(f"protein/hotprotein/{key}/{folder}/{name}.fasta", f">{name}\n{sequence()}\n")
    monkeypatch.setenv("SMCBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("SMCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "protein"


SPLITS = {
    "thermoprot-small": (128, 16, 16), "bertthermo-small": (36, 4, 10), "fireprotdb-small": (12, 12, 12),
    "hp-s-tape": (22, 2, 6), "hp-s2c2-esm1b": (22, 2, 6), "meltome-esm1b": (30, 10, 10), "hp-s2c5-if1": (22, 2, 6),
}  # fmt: skip


@pytest.mark.parametrize("name", SPLITS)
def test_splits_are_read_from_upstreams_files(name: str, world: Path) -> None:
    task = plugins.load_task(name)
    assert tuple(len(task.data(split)) for split in ("train", "validation", "test")) == SPLITS[name]  # type: ignore[arg-type]
    ids = [one for split in ("train", "validation", "test") for one in task.data(split).ids]  # type: ignore[arg-type,attr-defined]
    assert len(set(ids)) == len(ids)
    assert task.facts()["data"]
    batch = task.collate([task.data("train")[i] for i in range(3)])
    assert len(batch["label"]) == 3


def test_a_sequence_that_stands_in_two_splits_stays_in_the_test(world: Path) -> None:
    path = world / "bertthermo"
    text = (path / "test.fasta").read_text()
    (path / "train.fasta").write_text((path / "train.fasta").read_text() + text + text.replace("|test|", "|again|"))
    found = _protein_sets.CORPORA["bertthermo"].read()
    sequences = [example.texts for split in found.values() for example in split]
    assert len(sequences) == len(set(sequences)) == 50
    assert len(found["test"]) == 10


def test_what_an_encoder_sees_stands_in_one_split(world: Path) -> None:
    """Sequences that differ after their 254th residue alone, and the same backbone under two names."""
    draw = np.random.default_rng(1)
    long = ["".join(draw.choice(list("ACDEFGHIKLMNPQRSTVWY"), 254)) for _ in range(20)]
    for name in ("train", "test"):
        rows = (f">{name}{i}|{i % 2}\n{text}{'A' if name == 'train' else 'GG'}\n" for i, text in enumerate(long))
        (world / f"bertthermo/{name}.fasta").write_text("".join(rows) + ">x|0\nMK\n>y|1\nMKL\n" * (name == "train"))
    found = _protein_sets.CORPORA["bertthermo"].read()
    assert len(found["test"]) == 20
    assert {example.texts[0][0] for split in ("train", "validation") for example in found[split]} == {"MK", "MKL"}  # type: ignore[index]
    folder = world / "hotprotein/HP-S2C5/d2_clean"
    same = (folder / "p29/unrelaxed_model_1_ptm.pdb").read_text()
    for name in ("p0", "p1", "p28"):
        (folder / name / "unrelaxed_model_1_ptm.pdb").write_text(same)
    backbones = _protein_sets.structures(_protein_sets.dataset("hp-s2c5"), 5, "d2_clean")
    every = [one for some in backbones.values() for one in some]
    assert len(every) == len({one.atoms.tobytes() for one in every}) == 27
    assert [one.id.rpartition("/")[2] for one in backbones["test"]] == ["p24", "p25", "p26", "p27", "p28"]


def test_a_limit_that_is_not_reached_changes_nothing(world: Path) -> None:
    task = protein.bertthermo_small
    assert dataclasses.replace(task, limit=36).data("train").ids == task.data("train").ids
    five = dataclasses.replace(task, limit=5).data("train").ids
    assert five == sorted(task.data("train").ids, key=files.sha256)[:5]


def test_a_link_that_leads_nowhere_is_named(world: Path) -> None:
    link = world / "hotprotein/HP-S/S_target/gone.fasta"
    link.symlink_to("nowhere")
    with pytest.raises(InvalidInput, match=r"gone\.fasta: cannot be read \(No such file or directory\)"):
        _protein_sets.stamp(_protein_sets.dataset("hp-s"))


def test_notes_say_what_is_not_controlled() -> None:
    for name in ("thermoprot", "bertthermo"):
        note = protein.CORPORA[name].note
        assert "no two sequences begin with the same 254 residues" in note
        assert "homology between training and test is not controlled" in note


def test_a_mutation_is_put_as_wild_type_and_mutant(world: Path) -> None:
    task = protein.fireprotdb_small
    example = _protein_sets.CORPORA["fireprotdb"].read()["train"][4]
    (before, wild, after), (same, mutant, also) = example.texts
    assert (before, after) == (same, also)
    assert len(before) == 6
    assert (wild, mutant) == (example.texts[0][1], "A" if wild != "A" else "G")
    batch = task.collate([task.data("train")[4]])
    assert batch["tokens"].shape == (1, 2, 32)
    assert batch["pooled"].nonzero().tolist() == [[0, 0, 7], [0, 1, 7]]
    differing = (batch["tokens"][0, 0] != batch["tokens"][0, 1]).nonzero().flatten().tolist()
    assert differing == [7]


@pytest.mark.parametrize(
    ("file", "old", "new", "corpus", "message"),
    [
        ("bertthermo/train.fasta", "|train|0", "|train|hot", "bertthermo", "train.fasta:1: the header"),
        ("bertthermo/train.fasta", "|train|0\n", "|train|0\n\n>", "bertthermo", "train.fasta:1: the sequence is empty"),
        ("thermoprot/mesophilic.fasta", "Sequence 0\n", "Sequence 0\n?", "thermoprot", "mesophilic.fasta:1: residue 1"),
        ("fireprotdb-thermompnn/training/fireprot_val.csv", "\n3,", "\n99,", "fireprotdb", "csv:2: the sequence"),
        (
            "fireprotdb-thermompnn/training/fireprot_val.csv", "\n3,", f"\n{'9' * 5000},", "fireprotdb",
            "csv:2: the sequence has no",
        ),
        ("meltome/mixed_split.csv", ",40,train,", ",hot,train,", "meltome", "mixed_split.csv:2: 'target' is 'hot'"),
        ("hotprotein/HP-S/S_target/p3.fasta", ">p3", ">p3\nA\n>p4", "hp-s", "p3.fasta: has 2 proteins"),
    ],
)  # fmt: skip
def test_bad_data_are_named_by_file_and_line(
    file: str, old: str, new: str, corpus: str, message: str, world: Path
) -> None:
    text = (world / file).read_text()
    assert old in text
    (world / file).write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInput) as error:
        _protein_sets.CORPORA[corpus].read()
    assert message in one_line(error)


def test_missing_files_are_named(world: Path) -> None:
    (world / "hotprotein/HP-S/S_target/p7.fasta").unlink()
    with pytest.raises(InvalidInput) as error:
        _protein_sets.CORPORA["hp-s"].read()
    assert "there is no" in one_line(error)
    assert "p7.fasta" in str(error.value)
    (world / "hotprotein/HP-S2C5/d2_clean/p2/unrelaxed_model_1_ptm.pdb").unlink()
    with pytest.raises(InvalidInput, match=r"p2/unrelaxed_model_1_ptm\.pdb"):
        protein.hp_s2c5_if1.data("train")
    (world / "bertthermo/test.fasta").unlink()
    with pytest.raises(InvalidInput, match=r"data set protein/bertthermo is missing: .*test\.fasta"):
        _protein_sets.CORPORA["bertthermo"].read()


def test_fasta_and_packed_fasta_and_a_csv_split_give_the_same(world: Path) -> None:
    before = [_protein_sets.CORPORA[name].read() for name in ("bertthermo", "hp-s2c2")]
    path = world / "bertthermo/train.fasta"
    path.with_suffix(".fasta.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    folder = world / "hotprotein/HP-S2C2"
    made = pickle.loads((folder / "d1_1_classification.pkl").read_bytes())
    with (folder / "split.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "label", "split"])
        for part in ("train", "test"):
            rows.writerows([n, k, part] for n, k in zip(made[f"{part}_names"], made[f"{part}_labels"], strict=True))
    (folder / "d1_1_classification.pkl").unlink()
    assert [_protein_sets.CORPORA[name].read() for name in ("bertthermo", "hp-s2c2")] == before


@needs_data
@pytest.mark.parametrize(
    ("corpus", "sizes"),
    [
        ("thermoprot", (27800, 1000, 3200)),
        ("bertthermo", (2023, 224, 562)),
        ("fireprotdb", (2669, 387, 348)),
    ],
)
def test_real_splits_have_the_published_sizes_and_nothing_twice(corpus: str, sizes: tuple[int, int, int]) -> None:
    found = _protein_sets.CORPORA[corpus].read()
    assert tuple(map(len, found.values())) == sizes  # nothing was left out: nothing stands there twice
    if corpus == "thermoprot":
        for examples in found.values():
            assert set(Counter(e.label for e in examples).values()) == {len(examples) // 4}


# -- models

ESM1B = 652_356_501 - (1280 * 1280 + 1280) - (33 * 20 + 1)  # EsmModel without its pooler and its head for contacts
IF1 = 107_993_030  # fair-esm counts 141,662,150: these and 33,669,120 of the decoder


def head(width: int, hidden: int, outputs: int) -> int:
    return width * hidden + hidden + 2 * hidden + hidden * outputs + outputs


COUNTS = {
    "hp-s-tape": 91_371_264 + head(768, 512, 5),
    "hp-s-esm1b": ESM1B + head(1280, 512, 5),
    "hp-s2c2-esm1b": ESM1B + head(1280, 512, 2),
    "meltome-esm1b": ESM1B + head(1280, 512, 5),
    "hp-s2c5-if1": IF1 + head(512, 128, 5),
}


@pytest.mark.parametrize("name", COUNTS)
def test_models_have_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = plugins.load_task(name).architecture()
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]


def test_esm1b_is_transformers_own() -> None:
    import transformers

    with torch.device("meta"):
        config = transformers.EsmConfig(
            vocab_size=33, hidden_size=1280, num_hidden_layers=33, num_attention_heads=20, intermediate_size=5120,
            max_position_embeddings=1026, position_embedding_type="absolute", emb_layer_norm_before=True,
            pad_token_id=1, mask_token_id=32,
        )  # fmt: skip
        whole = transformers.EsmModel(config)
    assert sum(p.numel() for p in whole.parameters()) == 652_356_501
    assert len(_protein_encoders.VOCABULARIES["esm1b"]) == 33
    assert len(_protein_encoders.VOCABULARIES["tape"]) == 30


@pytest.mark.parametrize("name", COUNTS)
def test_the_scope_is_attention_and_feed_forward(name: str) -> None:
    """Four projections and two of the feed-forward part a layer; ``all`` adds the rest of the matrices."""
    task = plugins.load_task(name)
    with torch.device("meta"):
        model = task.architecture()
    sizes = {key: p.numel() for key, p in model.named_parameters()}
    layers, width, inner = {"tape": (12, 768, 3072), "sm1b": (33, 1280, 5120), "-if1": (8, 512, 2048)}[name[-4:]]
    assert sum(sizes[key] for key in task.prunable(model)) == layers * (4 * width**2 + 2 * width * inner)
    wide = task.variant("all")
    matrices = [p.numel() for p in model.parameters() if p.ndim == 2]
    assert sum(sizes[key] for key in wide.prunable(model)) == sum(matrices)


@pytest.mark.parametrize("name", ["hp-s-esm1b", "hp-s2c5-if1"])
def test_head_and_encoder_are_both_trained_each_at_its_rate(name: str) -> None:
    task = plugins.load_task(name).tiny()
    assert isinstance(task, protein.Protein | protein.Fold)
    model = build_model(task, 0)
    groups = task.parameter_groups(model)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert {id(p) for group in groups if "lr" in group for p in group["params"]} == {
        id(p) for p in model.head.parameters()
    }
    assert {group["lr"] for group in groups if "lr" in group} == {task.head_lr}
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    session = Session(task, model, task.recipe)
    session.train()
    moved = {key for key, p in session.model.named_parameters() if not torch.equal(before[key], p)}
    assert any(key.startswith("head.") for key in moved)
    assert any(key.startswith("backbone.") for key in moved)
    full = plugins.load_task(name)
    assert (full.head_lr, full.recipe.lr) == (2e-2, 1e-6 if "esm" in name else 1e-4)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["esm1b", "esm2", "tape"])
def test_padding_changes_nothing_and_the_mean_is_over_residues(kind: Any) -> None:
    encoder = Encoder(kind, 32, 2, 2, 64, 64, 16, init=0.2)
    torch.manual_seed(0)
    model = encoder.build(3).eval()
    task = protein.Protein("x", protein.thermoprot_small.recipe, "tiny-4", 4, encoder, 64)
    short, long = sorted((task.data("train")[i] for i in range(20)), key=lambda e: len(e.sequences[0]))[::19]
    with torch.no_grad():
        alone = task.forward(model, task.collate([short])).logits
        batch = task.collate([short, long])
        together = task.forward(model, batch).logits[:1]
        size = len(short.sequences[0])
        states = model.backbone(
            input_ids=batch["tokens"][0, :, :size], attention_mask=torch.ones(1, size).long()
        ).last_hidden_state  # fmt: skip
    assert torch.allclose(alone, together, atol=1e-5)
    assert torch.allclose(model.head(states[:, 1:-1].mean(1)), alone, atol=1e-5)


def test_esm_tokens_are_the_tokenizers_own(tmp_path: Path) -> None:
    from transformers import EsmTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(_protein_encoders.VOCABULARIES["esm2"]))
    theirs = EsmTokenizer(str(tmp_path / "vocab.txt"))("MKLXBUZOW")["input_ids"]
    ours = _protein_encoders.tokens("esm2")
    assert [ours.begin, *ours.encode(["MKLXBUZOW"])[0], ours.end] == theirs
    assert (ours.pad, ours.mask) == (1, 32)


@pytest.mark.parametrize("kind", ["esm2", "tape"])
def test_a_checkpoint_fills_the_encoder_or_is_refused(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder as transformers saves a masked language model; then another's, and a torn one."""
    import transformers

    name = {"esm2": "facebook/esm2_t6_8M_UR50D", "tape": "mlnotes/tape"}[kind]
    encoder = Encoder(kind, 32, 2, 2, 64, 64, 16, checkpoint=name)
    torch.manual_seed(1)
    backbone = dataclasses.replace(encoder, pretrained=False).build(2).backbone
    made = {"esm2": transformers.EsmForMaskedLM, "tape": transformers.BertForMaskedLM}[kind]
    whole = made(backbone.config)
    inner = whole.esm if kind == "esm2" else whole.bert
    inner.load_state_dict(backbone.state_dict(), strict=False)
    monkeypatch.setenv("SMCBENCH_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidInput, match=f"pretrained model {name} is missing"):
        encoder.build(2)
    whole.save_pretrained(tmp_path / name)
    filled = encoder.build(2).backbone.state_dict()
    assert all(torch.equal(filled[key], value) for key, value in backbone.state_dict().items())
    with pytest.raises(InvalidInput, match=r"does not fill the model|cannot be read as"):
        dataclasses.replace(encoder, layers=3).build(2)
    weights = tmp_path / name / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InvalidInput) as error:
        encoder.build(2)
    assert name in one_line(error)


# -- ESM-IF1

LITTLE = Sizes(32, 2, 4, 64, (16, 8), (8, 1), 2, 6)


def helix(count: int) -> torch.Tensor:
    i = torch.arange(3 * count, dtype=torch.float64)
    turned = [2.3 * torch.cos(0.6 * i), 2.3 * torch.sin(0.6 * i) + 0.2 * torch.sin(2 * i), 0.5 * i]
    return torch.stack(turned, -1).view(count, 3, 3).float()


def batch_of(*structures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    examples = [_protein_sets.Structure("", atoms.numpy(), 0) for atoms in structures]
    batch = protein.hp_s2c5_if1.collate(examples)
    return batch["atoms"], batch["known"], batch["real"]


@torch.no_grad()
def test_the_encoder_is_fair_esms() -> None:
    """States that fair-esm 2.0.0 computes with these weights for two helices of 12 and 7 residues, one padded."""
    model = Backbone(LITTLE).eval()
    for k, (_, p) in enumerate(sorted(model.named_parameters())):
        waves = 0.3 * torch.sin(0.7 * k + torch.arange(p.numel(), dtype=torch.float64) * 1.3)
        p.copy_(waves.view(p.shape))
    states = model(*batch_of(helix(12), helix(7)))
    expected = {
        12: ([0.1575, -0.0914, -0.2134, 0.3538, 0.316, 0.2502], 29.316),
        7: ([0.1541, -0.0918, -0.2145, 0.3422, 0.3117, 0.249], 17.08),
    }
    for found, (count, (mean, total)) in zip(states, expected.items(), strict=True):
        residues = found[1 : count + 1]
        assert residues.mean(0)[:6].tolist() == pytest.approx(mean, abs=2e-4)
        assert residues.square().sum().item() == pytest.approx(total, abs=2e-2)


@torch.no_grad()
def test_a_protein_may_be_turned_and_padded_but_not_mirrored() -> None:
    torch.manual_seed(0)
    model = Folded(LITTLE, 5).eval()
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    turn = turn * turn.det().sign()
    here, turned = helix(12), helix(12) @ turn.T
    expected = model(*batch_of(here))
    assert torch.allclose(model(*batch_of(turned)), expected, atol=1e-4)
    assert torch.allclose(model(*batch_of(here, helix(20)))[:1], expected, atol=1e-5)
    mirrored = here * torch.tensor([-1.0, 1.0, 1.0])
    assert not torch.allclose(model(*batch_of(mirrored)), expected, atol=1e-3)


@torch.no_grad()
def test_geometry_is_in_fp32_under_autocast() -> None:
    """As in evaluation on a GPU: what the transformer sees is exact, what it makes of that is near."""
    torch.manual_seed(0)
    model = Folded(LITTLE, 5).eval()
    batch = batch_of(helix(12), helix(20))
    seen: list[torch.Tensor] = []
    model.backbone.dropout.register_forward_hook(lambda _module, given, _made: seen.append(given[0]))
    expected = model(*batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*batch)
    assert torch.equal(seen[0], seen[1])
    assert found.float() == pytest.approx(expected, abs=0.05)


def test_dihedrals_by_hand() -> None:
    """A chain whose fourth atom is turned by a known angle about the second bond, to the sign IUPAC gives it."""
    for angle in (0.3, -1.2, 2.8):
        chain = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [math.cos(angle), math.sin(angle), 1]])
        atoms = torch.cat([chain, torch.tensor([[2.0, 2, 2], [3, 2, 2]])]).view(1, 2, 3, 3)
        found = _inverse_folding.dihedrals(atoms)[0]
        # The first angle over four atoms stands second: phi of the first residue has no beginning.
        assert found[0, 1].item() == pytest.approx(math.cos(angle), abs=1e-4)
        assert found[0, 4].item() == pytest.approx(math.sin(angle), abs=1e-4)
        assert (found[0, 0].item(), found[0, 3].item()) == (1, 0)


def test_esm_if1s_file_is_read_as_tensors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMCBENCH_MODELS", str(tmp_path))
    checkpoint = _inverse_folding.ESM_IF1
    with pytest.raises(InvalidInput, match=r"put esm_if1_gvp4_t16_142M_UR50\.pt \(from https://dl"):
        _inverse_folding.load(Backbone(LITTLE))
    torch.manual_seed(2)
    made, other = Backbone(LITTLE), Backbone(LITTLE)
    state = {f"encoder.{name}": value for name, value in made.state_dict().items()}
    for old, new in (("W_v", "embed_graph.embed_node"), ("embed_ingraham_features", "embed_dihedrals")):
        state = {name.replace(new, old): value for name, value in state.items()}
    path = tmp_path / checkpoint.weights[0]
    torch.save({"args": argparse.Namespace(arch="gvp"), "model": {**state, "decoder.x": torch.ones(1)}}, path)
    _inverse_folding.load(other)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in made.state_dict().items())
    with pytest.raises(InvalidInput, match="does not fill the encoder"):
        _inverse_folding.load(Backbone(dataclasses.replace(LITTLE, layers=3)))
    torch.save({"model": {"x": _Bomb(tmp_path / "touched")}}, path)
    for raw in (path.read_bytes(), b"torn"):
        path.write_bytes(raw)
        with pytest.raises(InvalidInput) as error:
            _inverse_folding.load(other)
        assert "cannot be read as esm_if1" in one_line(error)
    assert not (tmp_path / "touched").exists()


# -- tasks


@pytest.mark.parametrize("name", NAMES)
def test_tasks_say_what_they_need(name: str) -> None:
    task = plugins.load_task(name)
    kinds = [need.kind for need in task.requirements()]
    full, mini = "-small" not in name and "-mini" not in name, "-mini" in name
    assert kinds == ([] if mini else ["data", "model"] if full else ["data"])
    assert task.pretrained == full
    assert task.scope == ("all" if mini else "encoder")
    if "-small" in name:
        assert [need.kind for need in task.variant("esm2").requirements()] == ["data", "model"]
        assert task.variant("esm2").pretrained
    if full:
        assert not task.variant("scratch").pretrained
        assert "esm2" not in task.variant("scratch").variants
