"""The data behind the protein tasks: HotProtein, Meltome, ThermoProt, BertThermo, FireProtDB, lattice proteins."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.sources import Dataset, unpacked
from smcbench.task import SPLITS, Split

from . import _lattice, _sequences
from ._datasets import carve, dataset, held_out
from ._rows import comma_separated, number_in
from ._text import Corpus, Example

Splits = Mapping[Split, Sequence[Example]]


class Structure(NamedTuple):
    """A protein's backbone, and its class.

    Attributes:
        atoms: N, CA and C of shape (residues, 3, 3), in angstrom.
    """

    id: str
    atoms: Any
    label: int


CLASSES = ("psychrophilic", "mesophilic", "thermophilic", "hyperthermophilic")
"""ThermoProt's, from cold to hot."""
WINDOW = 120
"""Residues kept on either side of a mutation."""


def _sequence_of(example: Example) -> str:
    return example.texts[0][0]


def _distinct(parts: Mapping[Split, Sequence[Example]]) -> Splits:
    """Each example once, and in the first of test, validation and training that has it.

    Of ThermoProt, BertThermo and FireProtDB nothing falls to this: nothing stands there twice.
    """
    seen: set[tuple[tuple[str, ...], ...]] = set()
    found: dict[Split, list[Example]] = {}
    for split in ("test", "validation", "train"):
        found[split] = []
        for example in parts[split]:
            if example.texts not in seen:
                seen.add(example.texts)
                found[split].append(example)
    return {split: found[split] for split in SPLITS}


def _thermoprot(source: Dataset) -> Splits:
    """A tenth of each class, at most 1,000, for the test, and as much of the rest for validation."""
    parts: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for label, name in enumerate(CLASSES):
        rows = _sequences.fasta(source.read(f"{name}.fasta"))
        some = [Example(f"thermoprot/{name}/{n}", ((row.sequence,),), label) for n, row in enumerate(rows)]
        size = held_out(len(some))
        test, rest = carve(some, size, _sequence_of)
        validation, train = carve(rest, min(size, 250), _sequence_of)
        for split, examples in zip(SPLITS, (train, validation, test), strict=True):
            parts[split] += examples
    return _distinct(parts)


def _bertthermo(source: Dataset) -> Splits:
    def read(split: str) -> Iterator[Example]:
        for row in _sequences.fasta(source.read(f"{split}.fasta")):
            name, bar, label = row.header.rpartition("|")
            if not bar or label not in ("0", "1"):
                raise InvalidInput(f"{row.where}: the header {row.header!r} must end in |0 or |1")
            yield Example(f"bertthermo/{split}/{name}", ((row.sequence,),), int(label))

    rows = list(read("train"))
    validation, train = carve(rows, held_out(len(rows)), _sequence_of)
    return _distinct({"train": train, "validation": validation, "test": list(read("test"))})


def _fireprot(source: Dataset) -> Splits:
    """Wild type and mutant around the residue that changes: before, residue, after."""

    def read(file: str, split: Split) -> Iterator[Example]:
        columns = ("position", "wild_type", "mutation", "ddG", "sequence")
        for number, located in enumerate(comma_separated(source.read(file), columns)):
            row = located.row
            sequence, place = _sequences.residues(located.where, row["sequence"]), row["position"]
            at = int(place) if place.isdecimal() else 0
            if not 1 <= at <= len(sequence) or sequence[at - 1] != row["wild_type"]:
                raise InvalidInput(f"{located.where}: the sequence has no {row['wild_type']!r} at position {place!r}")
            mutation = _sequences.residues(located.where, row["mutation"])
            if len(mutation) != 1 or mutation == row["wild_type"]:
                raise InvalidInput(f"{located.where}: 'mutation' is {row['mutation']!r}, it must be another residue")
            before, after = sequence[max(0, at - 1 - WINDOW) : at - 1], sequence[at : at + WINDOW]
            texts = tuple((before, residue, after) for residue in (row["wild_type"], mutation))
            yield Example(f"fireprot/{split}/{number}", texts, number_in(located, "ddG"))

    names: dict[Split, str] = {
        "train": "training/fireprot_train.csv", "validation": "training/fireprot_val.csv",
        "test": "testing/fireprot_test.csv",
    }  # fmt: skip
    return _distinct({split: list(read(name, split)) for split, name in names.items()})


def _split(source: Dataset, classes: int) -> tuple[Path, dict[str, list[_sequences.Labelled]]]:
    """HotProtein's split, and the folder in which it lies."""
    name = source.files[0].names[0]
    path = source.path(source.files[0])
    if path is None:
        raise source.missing(f"there is no {name}")
    return path.parent, _sequences.split_of(source.read(name), classes)


def stamp(source: Dataset) -> str:
    """A digest of what lies beside HotProtein's split, by name, size and time: one file a protein is many to read."""
    path = source.path(source.files[0]) if "hotprotein" in source.name else None
    if path is None:
        return ""
    found = ((str(file.relative_to(path.parent)), file.stat()) for file in sorted(path.parent.rglob("*")))
    return files.digest([[name, about.st_size, about.st_mtime_ns] for name, about in found])


def _hotprotein(source: Dataset, classes: int, folder: str) -> Splits:
    """One FASTA file a protein, in a folder beside the split, or right beside it."""
    root, split = _split(source, classes)
    root = root / folder if (root / folder).is_dir() else root

    def read(part: str) -> list[Example]:
        return [
            Example(f"{source.name}/{part}/{one.name}", ((_sequences.one_fasta(root, one),),), one.label)
            for one in split[part]
        ]

    train = read("train")
    validation, train = carve(train, held_out(len(train)), _sequence_of)
    return _distinct({"train": train, "validation": validation, "test": read("test")})


def structures(source: Dataset, classes: int, folder: str) -> Mapping[Split, Sequence[Structure]]:
    """One PDB a protein, as AlphaFold's folder or as a file, in a folder beside the split, or right beside it."""
    root, split = _split(source, classes)
    root = root / folder if (root / folder).is_dir() else root

    def read(part: str) -> list[Structure]:
        found = []
        for one in split[part]:
            names = (f"{one.name}/unrelaxed_model_1_ptm.pdb", f"{one.name}.pdb")
            path = next((root / name for name in names if (root / name).is_file()), None)
            if path is None:
                raise InvalidInput(f"{one.where}: there is no {root / names[0]}")
            atoms = _sequences.backbone(unpacked(path))
            found.append(Structure(f"{source.name}/{part}/{one.name}", atoms, one.label))
        return found

    train = read("train")
    validation, train = carve(train, held_out(len(train)), lambda one: one.id)
    return {"train": train, "validation": validation, "test": read("test")}


def _meltome(source: Dataset) -> Splits:
    """FLIP's mixed split; classes are fifths of the melting temperatures of its training part."""
    found: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    columns = ("sequence", "target", "set", "validation")
    for number, located in enumerate(comma_separated(source.read("mixed_split.csv"), columns)):
        row = located.row
        if row["set"] not in ("train", "test"):
            raise InvalidInput(f"{located.where}: 'set' is {row['set']!r}, it must be 'train' or 'test'")
        split: Split = "test" if row["set"] == "test" else "validation" if row["validation"] == "True" else "train"
        text = _sequences.residues(located.where, row["sequence"])
        found[split].append(Example(f"meltome/{number}", ((text,),), number_in(located, "target")))
    heat = [example.label for example in found["train"]]
    if not heat:
        raise InvalidInput(f"{source.name}: no row of mixed_split.csv is for training")
    bounds = np.quantile(heat, [0.2, 0.4, 0.6, 0.8])
    return _distinct(
        {
            split: [e._replace(label=int(np.searchsorted(bounds, e.label, side="right"))) for e in some]
            for split, some in found.items()
        }
    )


# -- generated examples for tests of the adapter


def _tiny_classes(sizes: tuple[int, int, int], classes: int | None) -> Splits:
    """Charged or not: how many of the residues are E or K, in classes or as a share."""
    draw = random.Random(0)
    found: dict[Split, list[Example]] = {}
    for split, size in zip(SPLITS, sizes, strict=True):
        found[split] = []
        for number in range(size):
            share = draw.choice((0.1, 0.35, 0.6, 0.85))
            text = "".join(draw.choice("EK" if draw.random() < share else "AGILV") for _ in range(draw.randint(12, 24)))
            label = (0.1, 0.35, 0.6, 0.85).index(share) * (classes or 0) // 4 if classes else share
            found[split].append(Example(f"tiny/{split}/{number}", ((text,),), label))
    return found


def _tiny_mutations(sizes: tuple[int, int, int]) -> Splits:
    """Hydrophobic residues stabilise."""
    draw, scale = random.Random(0), {"A": 0.0, "G": -1.0, "I": 2.0, "K": -2.0, "L": 1.5, "S": -0.5}
    found: dict[Split, list[Example]] = {}
    for split, size in zip(SPLITS, sizes, strict=True):
        found[split] = []
        for number in range(size):
            before, after = ("".join(draw.choices("AGIKLS", k=draw.randint(3, 9))) for _ in range(2))
            old, new = draw.sample("AGIKLS", 2)
            texts = ((before, old, after), (before, new, after))
            found[split].append(Example(f"tiny/{split}/{number}", texts, scale[new] - scale[old]))
    return found


def tiny_structures(sizes: tuple[int, int, int]) -> Mapping[Split, Sequence[Structure]]:
    """Helices and strands, a little shaken."""
    found: dict[Split, list[Structure]] = {}
    for number, (split, size) in enumerate(zip(SPLITS, sizes, strict=True)):
        draw = np.random.default_rng(number)
        found[split] = []
        for i in range(size):
            label, along = int(draw.integers(5)), np.arange(3 * int(draw.integers(8, 15)))
            turn, rise = 0.3 + 0.3 * label, 1.2 - 0.2 * label
            atoms = np.stack([2.3 * np.cos(turn * along), 2.3 * np.sin(turn * along), rise * along], axis=-1)
            atoms += draw.normal(scale=0.05, size=atoms.shape)
            found[split].append(Structure(f"tiny/{split}/{i}", atoms.reshape(-1, 3, 3).astype(np.float32), label))
    return found


# -- the corpora

TINY = (96, 32, 64)
_LATTICE = (20000, 1000, 2000)
_GAP = 0.2
"""The share of sequences that is left out between two classes of the lattice proteins."""
_FAMILIES, _CANDIDATES = 2, 8
_LATTICE_NOTE = (
    f"lattice proteins, mutants of {_FAMILIES} designed ones, generated; held-out ones differ from every training "
    f"sequence at {_lattice.APART} places or more"
)
CARVED = "a tenth of train (at most 1,000) is validation, carved by a fixed rule"


def _corpora() -> Iterator[Corpus]:
    source = dataset("thermoprot")
    note = "by a fixed rule, of each class a tenth is for the test and 250 are for validation; no sequence stands twice"
    yield Corpus("thermoprot", functools.partial(_thermoprot, source), note, source)
    source = dataset("bertthermo")
    note = f"the authors' train and test; {CARVED}; no sequence stands twice"
    yield Corpus("bertthermo", functools.partial(_bertthermo, source), note, source)
    source = dataset("fireprotdb")
    note = "ThermoMPNN's split of FireProtDB into train, validation and test by homology"
    yield Corpus("fireprotdb", functools.partial(_fireprot, source), note, source)
    for key, classes, folder in (("hp-s", 5, "S_target"), ("hp-s2c2", 2, "d1_fasta_clean")):
        source = dataset(key)
        read = functools.partial(_hotprotein, source, classes, folder)
        yield Corpus(key, read, f"HotProtein's train and test; {CARVED}", source)
    source = dataset("meltome")
    note = "FLIP's mixed split; classes are fifths of the training melting temperatures, as SMC-Bench does not name its"
    yield Corpus("meltome", functools.partial(_meltome, source), note, source)
    for name, count in (("lattice", 4), ("lattice-tm", None)):
        gap = _GAP if count else 0.0
        made = functools.partial(_lattice.examples, _LATTICE, count, gap, _FAMILIES, _CANDIDATES)
        about = f"; classes by melting temperature, {_GAP:.0%} left out between two" if count else ""
        yield Corpus(name, made, _LATTICE_NOTE + about)
    for count in (2, 4, 5):
        yield Corpus(f"tiny-{count}", functools.partial(_tiny_classes, TINY, count), "generated")
    yield Corpus("tiny-tm", functools.partial(_tiny_classes, TINY, None), "generated")
    yield Corpus("tiny-ddg", functools.partial(_tiny_mutations, TINY), "generated")


CORPORA = {corpus.name: corpus for corpus in _corpora()}
