"""The data behind the protein tasks: HotProtein, Meltome, ThermoProt, BertThermo, FireProtDB, lattice proteins."""

from __future__ import annotations

import functools
import random
import reprlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.sources import Dataset, unpacked
from smcbench.task import SPLITS, Split

from . import _lattice, _sequences
from ._datasets import carve, dataset, held_out
from ._rows import comma_separated, number_in
from ._text import Corpus, Example

_T = TypeVar("_T")
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
LITTLE, FULL = 256, 1024
"""Most tokens of a sequence, the two special ones too: for the small tasks, and for the full ones."""


def _seen_of(longest: int) -> Callable[[Example], str]:
    """What an encoder of so many tokens sees of an example's sequence."""
    return lambda example: example.texts[0][0][: longest - 2]


def _seen_of_structure(one: Structure) -> str:
    """A digest of the atoms that the encoder sees; the same protein in another place has another."""
    return files.sha256(one.atoms[: FULL - 2].tobytes())


def _distinct(parts: Mapping[Split, Sequence[_T]], seen_of: Callable[[_T], Hashable]) -> dict[Split, list[_T]]:
    """Of examples of which the model sees the same, one, in the first of test, validation and training that has it."""
    seen: set[Hashable] = set()
    found: dict[Split, list[_T]] = {}
    for split in ("test", "validation", "train"):
        found[split] = []
        for one in parts[split]:
            key = seen_of(one)
            if key not in seen:
                seen.add(key)
                found[split].append(one)
    return {split: found[split] for split in SPLITS}


def _thermoprot(source: Dataset) -> Splits:
    """A tenth of each class, at most 1,000, for the test; as much of the rest, but at most 250, for validation."""
    parts: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for label, name in enumerate(CLASSES):
        rows = _sequences.fasta(source.read(f"{name}.fasta"))
        some = [Example(f"thermoprot/{name}/{n}", ((row.sequence,),), label) for n, row in enumerate(rows)]
        size = held_out(len(some))
        test, rest = carve(some, size, _seen_of(LITTLE))
        validation, train = carve(rest, min(size, 250), _seen_of(LITTLE))
        for split, examples in zip(SPLITS, (train, validation, test), strict=True):
            parts[split] += examples
    return _distinct(parts, _seen_of(LITTLE))


def _bertthermo(source: Dataset) -> Splits:
    def read(split: str) -> Iterator[Example]:
        for row in _sequences.fasta(source.read(f"{split}.fasta")):
            name, bar, label = row.header.rpartition("|")
            if not bar or label not in ("0", "1"):
                raise InvalidInput(f"{row.where}: the header {row.header!r} must end in |0 or |1")
            yield Example(f"bertthermo/{split}/{name}", ((row.sequence,),), int(label))

    rows = list(read("train"))
    validation, train = carve(rows, held_out(len(rows)), _seen_of(LITTLE))
    return _distinct({"train": train, "validation": validation, "test": list(read("test"))}, _seen_of(LITTLE))


def _fireprot(source: Dataset) -> Splits:
    """Wild type and mutant around the residue that changes: before, residue, after."""

    def read(file: str, split: Split) -> Iterator[Example]:
        columns = ("position", "wild_type", "mutation", "ddG", "sequence")
        for number, located in enumerate(comma_separated(source.read(file), columns)):
            row = located.row
            sequence, place = _sequences.residues(located.where, row["sequence"]), row["position"]
            at = int(place) if place.isdecimal() and len(place) < 10 else 0
            if not 1 <= at <= len(sequence) or sequence[at - 1] != row["wild_type"]:
                wild, shown = map(reprlib.repr, (row["wild_type"], place))
                raise InvalidInput(f"{located.where}: the sequence has no {wild} at position {shown}")
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
    return _distinct({split: list(read(name, split)) for split, name in names.items()}, lambda example: example.texts)


def _split(source: Dataset, classes: int) -> tuple[Path, dict[str, list[_sequences.Labelled]]]:
    """HotProtein's split, and the folder in which it lies."""
    name = source.files[0].names[0]
    path = source.path(source.files[0])
    if path is None:
        raise source.missing(f"there is no {name}")
    return path.parent, _sequences.split_of(source.read(name), classes)


def stamp(source: Dataset) -> str:
    """A digest of what lies beside HotProtein's split, by name, size and time: one file a protein is many to read.

    Raises:
        InvalidInput: one of them is a link that leads nowhere, or cannot be asked about.
    """
    path = source.path(source.files[0]) if "hotprotein" in source.name else None
    if path is None:
        return ""
    found = []
    for file in sorted(path.parent.rglob("*")):
        try:
            about = file.stat()
        except OSError as error:
            raise InvalidInput(f"{file}: cannot be read ({error.strerror}); mend or delete it") from None
        found.append([str(file.relative_to(path.parent)), about.st_size, about.st_mtime_ns])
    return files.digest(found)


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
    validation, train = carve(train, held_out(len(train)), _seen_of(FULL))
    return _distinct({"train": train, "validation": validation, "test": read("test")}, _seen_of(FULL))


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
    validation, train = carve(train, held_out(len(train)), _seen_of_structure)
    return _distinct({"train": train, "validation": validation, "test": read("test")}, _seen_of_structure)


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
        },
        _seen_of(FULL),
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
    distinct = "no two sequences begin with the same {:,} residues"
    little = f"{distinct.format(LITTLE - 2)}, but homology between training and test is not controlled"
    full = distinct.format(FULL - 2)
    source = dataset("thermoprot")
    note = "by a fixed rule, of each class a tenth is for the test and at most 250 are for validation"
    yield Corpus("thermoprot", functools.partial(_thermoprot, source), f"{note}; {little}", source, version=2)
    source = dataset("bertthermo")
    note = f"the authors' train and test; {CARVED}; {little}"
    yield Corpus("bertthermo", functools.partial(_bertthermo, source), note, source, version=2)
    source = dataset("fireprotdb")
    note = "ThermoMPNN's split of FireProtDB into train, validation and test by homology"
    yield Corpus("fireprotdb", functools.partial(_fireprot, source), note, source)
    for key, classes, folder in (("hp-s", 5, "S_target"), ("hp-s2c2", 2, "d1_fasta_clean")):
        source = dataset(key)
        read = functools.partial(_hotprotein, source, classes, folder)
        yield Corpus(key, read, f"HotProtein's train and test; {CARVED}; {full}", source, version=2)
    source = dataset("meltome")
    note = "FLIP's mixed split; classes are fifths of the training melting temperatures, as SMC-Bench does not name its"
    yield Corpus("meltome", functools.partial(_meltome, source), f"{note}; {full}", source, version=2)
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
