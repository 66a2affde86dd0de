"""Lattice proteins: the folds, the published energies, and melting temperatures, against independent computations."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from smcbench.files import digest
from smcbench_tasks import _lattice, protein

PUBLISHED = """
0.46
0.54 -0.20
0.49 -0.01 0.06
0.57 0.01 0.03 -0.08
0.52 0.18 0.10 -0.01 -0.04
0.30 -0.29 0.00 0.02 0.08 0.11
0.64 -0.10 0.05 0.11 0.10 0.23 -0.04
0.51 0.15 0.17 0.05 0.13 0.08 0.07 0.09
0.68 0.46 0.62 0.62 0.65 0.51 0.24 0.20 0.18
0.67 0.28 0.41 0.30 0.40 0.36 0.37 0.13 0.10 0.10
0.69 0.53 0.44 0.59 0.60 0.55 0.38 0.14 0.18 0.14 -0.06
0.97 0.62 0.72 0.87 0.79 0.77 0.30 0.17 0.36 0.22 0.02 0.10
0.64 0.20 0.30 0.37 0.42 0.46 0.19 -0.12 0.24 0.24 -0.08 0.11 -0.10
0.91 0.77 0.75 0.71 0.89 0.89 0.30 -0.07 0.26 0.13 -0.14 -0.19 -0.24 -0.09
0.91 0.30 0.52 0.46 0.55 0.55 0.00 -0.25 0.30 0.36 -0.22 -0.19 -0.21 -0.19 0.05
0.65 0.28 0.39 0.66 0.67 0.70 0.08 0.09 0.47 0.50 0.16 0.26 0.29 0.31 -0.19 -0.16
0.93 0.38 0.42 0.41 0.43 0.47 -0.11 -0.30 0.30 0.18 -0.07 -0.01 -0.02 -0.26 -0.91 -1.04 0.14
0.83 0.31 0.33 0.32 0.37 0.33 -0.10 -0.46 0.11 0.03 -0.19 -0.15 -0.30 -0.46 -1.01 -1.28 0.23 0.24
0.53 0.16 0.25 0.39 0.35 0.31 -0.33 -0.23 0.20 0.13 0.04 0.14 0.18 -0.08 0.14 0.07 0.15 -0.05 -0.04
"""
"""The lower triangle of Miyazawa and Jernigan's table 3: what a contact gains over the mean of the two like ones."""


def test_the_energies_agree_with_the_other_half_of_the_published_table() -> None:
    """Each of the 190 contacts of unlike residues less the mean of the like ones; the paper rounds to hundredths."""
    table = _lattice.contact_energies() / 100
    assert (table == table.T).all()
    for i, line in enumerate(PUBLISHED.strip().splitlines(), 1):
        for j, value in enumerate(map(float, line.split())):
            assert table[i, j] - (table[i, i] + table[j, j]) / 2 == pytest.approx(value, abs=0.0101)
    names = {name: number for number, name in enumerate(_lattice.RESIDUES)}
    # By the numbers that are quoted most: the strongest contact and the weakest.
    assert table.min() == table[names["L"], names["L"]] == -7.37
    assert table.max() == table[names["K"], names["K"]] == -0.12


@pytest.mark.parametrize(("side", "directed"), [(2, 8), (3, 40), (4, 552), (5, 8648)])
def test_folds_are_the_hamiltonian_paths_up_to_symmetry(side: int, directed: int) -> None:
    """All paths, counted by another search, in classes of eight, as no path is its own image."""

    def paths(site: int, free: int) -> int:
        if not free:
            return 1
        x, y = divmod(site, side)
        near = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
        steps = [a * side + b for a, b in near if 0 <= a < side and 0 <= b < side]
        return sum(paths(step, free & ~(1 << step)) for step in steps if free >> step & 1)

    everything = (1 << side * side) - 1
    assert sum(paths(site, everything & ~(1 << site)) for site in range(side * side)) == directed
    found = _lattice.folds(side)
    assert len(found) == len(set(found)) == directed // 8
    for walk in found:
        assert len(set(walk)) == side * side
        assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in itertools.pairwise(walk))


def test_energies_by_hand() -> None:
    """Sixteen contacts a fold: of 40 neighbours on the lattice, 24 are neighbours in the chain."""
    lattice = _lattice.Lattice()
    table, draw = _lattice.contact_energies(), random.Random(3)
    sequences = np.asarray([[draw.randrange(20) for _ in range(25)] for _ in range(3)])
    energies = lattice.energies(sequences)
    assert energies.shape == (3, 1081)
    for number in draw.sample(range(1081), 5):
        walk = lattice.folds[number]
        pairs = [
            (i, j)
            for i, j in itertools.combinations(range(25), 2)
            if j - i > 1 and abs(walk[i][0] - walk[j][0]) + abs(walk[i][1] - walk[j][1]) == 1
        ]
        assert len(pairs) == 16
        assert pairs == _lattice.contacts(walk)
        for sequence, energy in zip(sequences, energies[:, number], strict=True):
            assert energy == sum(table[sequence[i], sequence[j]] for i, j in pairs)


def test_half_of_the_weight_melts_at_the_melting_temperature() -> None:
    draw = np.random.default_rng(0)
    energies = draw.normal(size=(200, 50))
    heat = _lattice.melting_temperatures(energies)
    weights = np.exp(-(energies - energies.min(axis=1, keepdims=True)) / heat[:, None])
    assert (weights.max(axis=1) / weights.sum(axis=1)) == pytest.approx(np.full(200, 0.5), abs=1e-9)
    # Two states above the native one by the same: 1 = 2 exp(-gap / T).
    assert _lattice.melting_temperatures(np.array([[0.0, 3.0, 3.0]]))[0] == pytest.approx(3 / math.log(2))
    assert _lattice.melting_temperatures(np.array([[1.0, 1.0, 3.0]]))[0] == 0
    assert _lattice.melting_temperatures(100 * energies) == pytest.approx(100 * heat)


SIZES = (400, 60, 120)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def made(cache: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SMCBENCH_CACHE", str(cache))
    return lambda classes=4, gap=0.16: _lattice.examples(SIZES, classes, gap, families=2, candidates=2)


def test_held_out_sequences_are_far_from_training(made) -> None:  # type: ignore[no-untyped-def]
    found = {split: [example.texts[0][0] for example in some] for split, some in made().items()}
    assert {split: len(some) for split, some in found.items()} == dict(
        zip(("train", "validation", "test"), SIZES, strict=True)
    )
    for held in found["validation"] + found["test"]:
        assert min(sum(a != b for a, b in zip(held, other, strict=True)) for other in found["train"]) >= _lattice.APART
    assert len(set(itertools.chain(*found.values()))) == sum(SIZES)


def test_classes_are_by_melting_temperature_and_apart(made) -> None:  # type: ignore[no-untyped-def]
    lattice = _lattice.Lattice()
    found = made()
    heat: dict[int, list[float]] = {label: [] for label in range(4)}
    for example in itertools.chain(*found.values()):
        sequence = np.asarray([[_lattice.RESIDUES.index(letter) for letter in example.texts[0][0]]])
        heat[example.label] += (_lattice.melting_temperatures(lattice.energies(sequence)) / 100).tolist()
    ranges = [(min(heat[label]), max(heat[label])) for label in range(4)]
    assert all(high < low for (_, high), (low, _) in itertools.pairwise(ranges))
    share = Counter(example.label for example in found["train"])
    assert all(abs(share[label] / SIZES[0] - 0.25) < 0.07 for label in range(4))


def test_temperatures_are_those_of_the_sequences(made) -> None:  # type: ignore[no-untyped-def]
    lattice = _lattice.Lattice()
    for example in made(None, 0.0)["test"][:40]:
        sequence = np.asarray([[_lattice.RESIDUES.index(letter) for letter in example.texts[0][0]]])
        assert example.label == pytest.approx(
            _lattice.melting_temperatures(lattice.energies(sequence))[0] / 100, abs=1e-4
        )


def test_a_design_folds_into_its_fold() -> None:
    lattice = _lattice.Lattice()
    for fold in (154, 788):
        sequence, gap = _lattice.design(lattice, fold, random.Random(1))
        energies = lattice.energies(sequence[None])[0]
        assert energies.argmin() == fold
        assert np.sort(energies)[1] - energies[fold] == gap > 0


def test_examples_are_the_same_on_every_machine(made) -> None:  # type: ignore[no-untyped-def]
    found = {split: [list(example) for example in some] for split, some in made().items()}
    assert digest(found) == "125045b9c646cc2c9a86ad39f81b579d1b1e782957eeb34385927074a82c3356"


def test_mutants_that_are_not_there_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one place of 25 there are 475 mutants."""
    monkeypatch.setattr(_lattice, "_MUTATIONS", (1, 1))
    monkeypatch.setattr(_lattice, "_PART", 500)
    monkeypatch.setattr(_lattice, "_ROUNDS", 4)
    lattice, draw = _lattice.Lattice(), random.Random(1)
    parent, _ = _lattice.design(lattice, 154, draw)
    assert len(_lattice._mutants(lattice, parent, 154, 20, draw)[0]) == 20
    with pytest.raises(ValueError, match=r"only \d+ of 476 mutants that keep fold 154 are found"):
        _lattice._mutants(lattice, parent, 154, 476, draw)


@pytest.mark.slow
def test_a_linear_model_knows_less_than_the_network() -> None:
    """Logistic regression on one-hot residues, which knows no pairs, against the score of the qualified network."""
    from sklearn.linear_model import LogisticRegression

    task = protein.lattice_protein_mini
    data = {split: task.data(split) for split in ("train", "test")}
    inputs = {
        split: np.eye(30, dtype=np.float32)[[list(one.sequences[0]) for one in some]].reshape(len(some), -1)
        for split, some in data.items()
    }
    model = LogisticRegression(C=0.1, max_iter=200).fit(inputs["train"], data["train"].labels)
    linear = 100 * float(model.score(inputs["test"], data["test"].labels))
    assert task.qualification is not None
    assert 50 < linear < task.qualification.dense - 10
