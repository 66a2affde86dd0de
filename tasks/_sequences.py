"""Proteins from upstream's files: FASTA, HotProtein's splits, and backbones from PDB.

A sequence is in IUPAC's letters of amino acids, one a residue; J (leucine or isoleucine), which no vocabulary has, is
read as X. Whatever is wrong is named by file and line. A pickle is read as plain containers, text and numbers: any
other object in it is refused, and nothing is executed.
"""

from __future__ import annotations

import importlib
import io
import math
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smcbench.errors import InvalidInput
from smcbench.sources import Contents, unpacked

from ._rows import comma_separated, number_in

LETTERS = "ABCDEFGHIKLMNOPQRSTUVWXYZ"
"""IUPAC's, with B, Z and X for what is not known, O and U; without J."""
ATOMS = ("N", "CA", "C")
"""Of a residue's backbone, in the order of coordinates."""


class Row(NamedTuple):
    """A protein as a file has it: the place to name if it is wrong, its header without ``>``, and its sequence."""

    where: str
    header: str
    sequence: str


def residues(where: str, text: str) -> str:
    """A sequence in the letters that are known, in upper case.

    Raises:
        InvalidInput: it is empty, or a letter is no amino acid.

    >>> residues("a.fasta:1", "mkJ")
    'MKX'
    """
    sequence = text.upper().replace("J", "X")
    if not sequence:
        raise InvalidInput(f"{where}: the sequence is empty")
    for place, letter in enumerate(sequence, 1):
        if letter not in LETTERS:
            raise InvalidInput(f"{where}: residue {place} is {letter!r}, which is no amino acid")
    return sequence


def fasta(contents: Contents) -> Iterator[Row]:
    """The proteins of a FASTA file, each named by the line of its header.

    Raises:
        InvalidInput: a sequence before the first header, an empty one, or a letter that is no amino acid.
    """
    where, header, parts = "", "", list[str]()
    for here, line in contents.lines():
        if line.startswith(">"):
            if where:
                yield Row(where, header, residues(where, "".join(parts)))
            where, header, parts = here, line[1:].strip(), []
        elif line.strip():
            if not where:
                raise InvalidInput(f"{here}: must be a header, which begins with '>'")
            parts.append(line.strip())
    if not where:
        raise InvalidInput(f"{contents.where}: has no protein")
    yield Row(where, header, residues(where, "".join(parts)))


# -- HotProtein


class Labelled(NamedTuple):
    """The name of a protein and its class; the place to name if either is wrong."""

    where: str
    name: str
    label: int


def _latin(text: str, encoding: str) -> bytes:
    """How old pickles write bytes."""
    return text.encode("latin1" if encoding == "latin1" else "ascii")


class _Plain(pickle.Unpickler):
    """Unpickles containers, text and numbers, and arrays of these; refuses everything else before it is made."""

    ALLOWED: Mapping[tuple[str, str], Any] = {
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        ("_codecs", "encode"): _latin,
    }
    NUMPY = {"multiarray": ("_reconstruct", "scalar"), "numeric": ("_frombuffer",)}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.ALLOWED:
            return self.ALLOWED[module, name]
        package, _, part = module.rpartition(".")
        if package in ("numpy.core", "numpy._core") and name in self.NUMPY.get(part, ()):
            return getattr(importlib.import_module(f"numpy._core.{part}"), name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def plain_pickle(contents: Contents) -> Any:
    """What a pickle holds, if that is plain data.

    Raises:
        InvalidInput: it holds anything else, or is torn.
    """
    try:
        found = _Plain(io.BytesIO(contents.raw)).load()
    except Exception as error:  # a torn or hostile pickle may raise anything
        what = str(error) if str(error).startswith("it holds ") else f"it is torn ({type(error).__name__})"
        raise InvalidInput(
            f"{contents.where}: not read: {what}; only lists, dicts, text, numbers and arrays of numbers are, "
            "or write it as split.csv"
        ) from None
    return found


def split_of(contents: Contents, classes: int) -> dict[str, list[Labelled]]:
    """Names and classes of ``train`` and ``test``, from HotProtein's pickle, or from a CSV of name, label and split.

    Raises:
        InvalidInput: keys are missing, lengths differ, a label is no class, or a name stands in both.
    """
    if contents.where.endswith((".csv", ".csv.gz", ".csv.xz")):
        found: dict[str, list[Labelled]] = {"train": [], "test": []}
        for located in comma_separated(contents, ("name", "label", "split")):
            row = located.row
            if row["split"] not in found:
                raise InvalidInput(f"{located.where}: 'split' is {row['split']!r}, it must be 'train' or 'test'")
            label = _class(located.where, number_in(located, "label"), classes)
            found[row["split"]].append(Labelled(located.where, row["name"], label))
    else:
        found = _unpickled(contents, classes)
    both = {one.name for one in found["train"]} & {one.name for one in found["test"]}
    if both:
        raise InvalidInput(f"{contents.where}: {min(both)} stands in train and in test")
    return found


def _unpickled(contents: Contents, classes: int) -> dict[str, list[Labelled]]:
    raw = plain_pickle(contents)
    found: dict[str, list[Labelled]] = {}
    for split in ("train", "test"):
        columns = []
        for what in ("names", "labels"):
            column = raw.get(f"{split}_{what}") if isinstance(raw, dict) else None
            if not isinstance(column, list | tuple | np.ndarray):
                raise InvalidInput(f"{contents.where}: must be a dict with a list {split}_{what}")
            columns.append([one.item() if isinstance(one, np.generic) else one for one in column])
        names, labels = columns
        if len(names) != len(labels):
            raise InvalidInput(f"{contents.where}: {split} has {len(names)} names and {len(labels)} labels")
        found[split] = []
        for place, (name, label) in enumerate(zip(names, labels, strict=True)):
            here = f"{contents.where} {split}[{place}]"
            if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
                raise InvalidInput(f"{here}: the name is {name!r}, it must be that of a file")
            found[split].append(Labelled(here, name, _class(here, label, classes)))
    return found


def _class(where: str, label: Any, classes: int) -> int:
    try:
        value = float(label)
    except (TypeError, ValueError):
        value = math.nan
    if value not in range(classes):
        raise InvalidInput(f"{where}: the label is {label!r}, it must be one of 0 to {classes - 1}")
    return int(value)


def one_fasta(folder: Path, labelled: Labelled) -> str:
    """The sequence of ``<name>.fasta`` in a folder.

    Raises:
        InvalidInput: there is no such file, or it holds not exactly one protein.
    """
    path = folder / f"{labelled.name}.fasta"
    if not path.is_file():
        raise InvalidInput(f"{labelled.where}: there is no {path}")
    rows = list(fasta(unpacked(path)))
    if len(rows) != 1:
        raise InvalidInput(f"{path}: has {len(rows)} proteins, it must have one")
    return rows[0].sequence


# -- structures


def backbone(contents: Contents, chain: str = "A") -> Any:
    """Coordinates of N, CA and C of each residue of a chain, in angstrom, as float32 of shape (residues, 3, 3).

    Of a PDB file, the ATOM lines of its first model; of an atom with alternative places, the first.

    Raises:
        InvalidInput: the chain is not there, a residue lacks one of the three, or a number cannot be read.
    """
    found: dict[str, dict[str, list[float]]] = {}
    first: dict[str, str] = {}
    for where, line in contents.lines():
        if line.startswith("ENDMDL"):
            break
        atom = line[12:16].strip()
        if not line.startswith("ATOM  ") or line[21:22] != chain or atom not in ATOMS:
            continue
        residue = line[22:27]  # number and insertion code
        try:
            place = [float(line[start : start + 8]) for start in (30, 38, 46)]
        except ValueError:
            place = [math.nan]
        if not all(map(math.isfinite, place)):
            raise InvalidInput(f"{where}: the coordinates {line[30:54].strip()!r} are no three numbers")
        first.setdefault(residue, where)
        found.setdefault(residue, {}).setdefault(atom, place)
    if not found:
        raise InvalidInput(f"{contents.where}: has no backbone of chain {chain}")
    for residue, atoms in found.items():
        for atom in ATOMS:
            if atom not in atoms:
                raise InvalidInput(f"{first[residue]}: residue {residue.strip()} of chain {chain} has no {atom}")
    return np.asarray([[atoms[atom] for atom in ATOMS] for atoms in found.values()], dtype=np.float32)
