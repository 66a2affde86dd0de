"""Proteins from upstream's files: FASTA, HotProtein's splits, and backbones from PDB.

A sequence is in IUPAC's letters of amino acids, one a residue; J (leucine or isoleucine), which no vocabulary has, is
read as X. Whatever is wrong is named by file and line. A pickle is read as plain containers, text and numbers: one that
holds anything else is refused before it is unpickled, and nothing is executed.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import reprlib
from collections.abc import Iterator
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


_CONTAINERS = {"EMPTY_DICT", "DICT", "EMPTY_LIST", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_PLAIN = {
    *_CONTAINERS, "PROTO", "FRAME", "STOP", "MARK", "SETITEM", "SETITEMS", "APPEND", "APPENDS",
    "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
"""Instructions of a pickle that make containers, text and numbers; none of them looks up or calls anything."""
_MOST_CONTAINERS = 32
"""In a split, which has a dict and four lists: so nothing is nested deeply."""


class _Refused(Exception):
    """A pickle holds what is not read."""


class _Unpickler(pickle.Unpickler):
    """Finds nothing: no instruction that is let through asks for anything."""

    def find_class(self, module: str, name: str) -> Any:
        raise _Refused("it names an object")


def plain_pickle(contents: Contents) -> Any:
    """What a pickle holds, if that is a few containers of text and numbers; its instructions are looked through first.

    Arrays and numbers of numpy are refused too: to make them is to call functions that trust what they are given.

    Raises:
        InvalidInput: it holds anything else, or is torn.
    """
    try:
        containers = 0
        for number, (code, argument, _) in enumerate(pickletools.genops(contents.raw)):
            if code.name not in _PLAIN:
                raise _Refused(f"it holds other objects, numpy's maybe ({code.name})")
            containers += code.name in _CONTAINERS
            if containers > _MOST_CONTAINERS:
                raise _Refused(f"it holds more than {_MOST_CONTAINERS} dicts, lists and tuples")
            if code.name.endswith("PUT") and (argument or 0) > number:  # room is made up to there
                raise _Refused(f"it holds a memo {argument}")
        found = _Unpickler(io.BytesIO(contents.raw)).load()
    except Exception as error:  # a torn or hostile pickle may raise anything
        what = str(error) if isinstance(error, _Refused) else f"it is torn ({type(error).__name__})"
        raise InvalidInput(
            f"{contents.where}: not read: {what}; only a dict of lists of text and numbers is; "
            "put a split.csv in its place, with columns name, label and split (train or test)"
        ) from None
    return found


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 1


def split_of(contents: Contents, classes: int) -> dict[str, list[Labelled]]:
    """Names and classes of ``train`` and ``test``, from HotProtein's pickle, or from a CSV of name, label and split.

    Raises:
        InvalidInput: keys are missing, lengths differ, a label is no class, a name is none of a file, or stands twice.
    """
    if contents.where.endswith((".csv", ".csv.gz", ".csv.xz")):
        found: dict[str, list[Labelled]] = {"train": [], "test": []}
        for located in comma_separated(contents, ("name", "label", "split")):
            row = located.row
            if row["split"] not in found:
                shown = _SHORT.repr(row["split"])
                raise InvalidInput(f"{located.where}: 'split' is {shown}, it must be 'train' or 'test'")
            label = _class(located.where, number_in(located, "label"), classes)
            found[row["split"]].append(Labelled(located.where, row["name"], label))
    else:
        found = _unpickled(contents, classes)
    places: dict[str, str] = {}
    for one in (*found["train"], *found["test"]):
        if not _names_a_file(one.name):
            raise InvalidInput(f"{one.where}: the name is {_SHORT.repr(one.name)}, it must be that of a file")
        if one.name in places:
            raise InvalidInput(f"{one.where}: {one.name} stands at {places[one.name]} already")
        places[one.name] = one.where
    return found


def _unpickled(contents: Contents, classes: int) -> dict[str, list[Labelled]]:
    raw = plain_pickle(contents)
    found: dict[str, list[Labelled]] = {}
    for split in ("train", "test"):
        columns = []
        for what in ("names", "labels"):
            column = raw.get(f"{split}_{what}") if isinstance(raw, dict) else None
            if not isinstance(column, list | tuple):
                raise InvalidInput(f"{contents.where}: must be a dict with a list {split}_{what}")
            columns.append(column)
        names, labels = columns
        if len(names) != len(labels):
            raise InvalidInput(f"{contents.where}: {split} has {len(names)} names and {len(labels)} labels")
        found[split] = []
        for place, (name, label) in enumerate(zip(names, labels, strict=True)):
            here = f"{contents.where} {split}[{place}]"
            found[split].append(Labelled(here, name, _class(here, label, classes)))
    return found


def _names_a_file(name: Any) -> bool:
    """Whether it is text that names a file in a folder, and can name none outside of it, nor a hidden one."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and 0 < len(name.encode()) <= 200
        and not name.startswith(".")
        and not set("/\\") & set(name)
    )


def _class(where: str, label: Any, classes: int) -> int:
    try:
        value = float(label)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if value not in range(classes):
        raise InvalidInput(f"{where}: the label is {_SHORT.repr(label)}, it must be one of 0 to {classes - 1}")
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
