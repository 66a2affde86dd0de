"""Arithmetic word problems: MAWPS, ASDiv-A and SVAMP, solved by trees that GTS and Graph2Tree write.

Three scales, one adapter. Full: words embedded by RoBERTa-base, trained along, and SMC-Bench's recipes. Small: the same
data with a table of words, or with MiniLM-L6 (``NAME@minilm``). Mini: generated (:mod:`_arithmetic_mini`).

MAWPS and ASDiv-A are five-fold cross-validations: five trainings, each with its own vocabulary, constants and
validation split, scored on the pooled predictions. SVAMP is trained on MAWPS and ASDiv-A.

Where SMC-Bench's code differs we do what the papers mean. The published dev parts are the test splits here too, but
nothing is selected on them: validation is carved from the training part, and the network of the last step is scored,
not the best of fifty epochs. Constants that may be written are those of the training split alone, not of the test split
too. Quantities are represented at their own places (:mod:`_solvers`). Training problems with a rarer constant are left
out; test problems with one are asked, and right if another expression has their value. Scope ``all`` is the same five
modules for every method; there SNIP, GMP and RigL left two of them out. RoBERTa's pooler, which nothing uses, is none
of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smcbench.errors import InvalidInput
from smcbench.feed import to_device
from smcbench.parts import Pooled
from smcbench.recipe import Recipe
from smcbench.results.outcomes import Outcomes, outcomes
from smcbench.sources import Requirement
from smcbench.task import Batch, Evaluation, Metric, Outputs, Qualification, Scope, Split, Task, in_order

from . import _arithmetic_mini as mini
from . import _metrics, _qualified, _recipes
from ._datasets import dataset
from ._evaluating import chunks, evaluating
from ._expressions import is_right
from ._problems import Encoded, Problem, Ready, Source, constants, folds, problems, ready, repeated
from ._recipes import recipe
from ._solvers import Network, Solver
from ._text import CHECKPOINTS, MINILM, ROBERTA_BASE, Encoder
from ._trees import END

BEAMS, LONGEST = 5, 45
"""Of the search, and tokens of an expression at most (GTS)."""
_LONGEST = 4096
"""Characters of an expression that somebody sends."""
_LOOK = 500
"""Most validation problems: methods look at them often."""
_OWN_LR = 1e-4
"""Rate of an embedding that is no RoBERTa-base with its own weights."""
_CARVED = "published {}; validation is a tenth of the training part, carved by a fixed rule"
_SIZES, _TINY = (6000, 300, 600), (96, 24, 48)
"""Generated problems: train, validation, test."""


def _sources() -> dict[str, Source]:
    note = "generated; see the module _arithmetic_mini"
    found = {"svamp-mini": Source("svamp-mini", lambda _: mini.problems(*_SIZES), note),
             "svamp-tiny": Source("svamp-tiny", lambda _: mini.problems(*_TINY), note)}  # fmt: skip
    for name, count in (("mawps", 5), ("asdiv-a", 5), ("svamp", 0)):
        data = dataset(name)
        read = functools.partial(folds, data, name)
        note = _CARVED.format("folds" if count else "split: MAWPS and ASDiv-A to train, SVAMP to test")
        found[name] = Source(name, read, note, count, data)
    return found


SOURCES = _sources()


@dataclass(frozen=True)
class Arithmetic(Task):
    """Which expression solves the problem? Right is what has the right value; equal expressions are counted beside."""

    family: ClassVar[str] = "arithmetic"
    version: ClassVar[int] = 1
    metric: ClassVar[Metric] = Metric("accuracy")

    name: str
    recipe: Recipe
    source: str
    """Name of the source of problems."""
    solver: Solver
    scope: Scope = "all"
    """All five modules, embeddings included, as SMC-Bench; ``NAME@encoder`` leaves those dense."""
    fold: int | None = None
    """Which part of a cross-validation."""
    embedding_lr: float | None = None
    """Peak learning rate of a transformer that embeds words; none: that of the recipe."""
    longest: int = LONGEST

    @property
    def pretrained(self) -> bool:
        """Whether words are embedded by pretrained weights."""
        encoder = self.solver.encoder
        return encoder is not None and encoder.checkpoint is not None and encoder.pretrained

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """The other scope; a random start in place of pretrained weights, or MiniLM-L6 in place of a table."""
        found: dict[str, Mapping[str, Any]] = {"encoder": {"scope": "encoder"}}
        encoder = self.solver.encoder
        if self.pretrained and encoder is not None:
            random = dataclasses.replace(self.solver, encoder=dataclasses.replace(encoder, pretrained=False))
            found["scratch"] = {"solver": random, "embedding_lr": _OWN_LR}
        elif encoder is None and SOURCES[self.source].dataset is not None:
            solver = dataclasses.replace(self.solver, embedding=MINILM.width, encoder=MINILM)
            found["minilm"] = {"solver": solver, "embedding_lr": _OWN_LR}
        return found

    def requirements(self) -> Sequence[Requirement]:
        """The data set and the checkpoint."""
        data, encoder = SOURCES[self.source].dataset, self.solver.encoder
        checkpoint = encoder.checkpoint if encoder is not None else None
        return [*([data] if data else []), *([CHECKPOINTS[checkpoint]] if checkpoint else [])]

    def build_model(self) -> nn.Module:
        return self._built(self.solver)

    def architecture(self) -> nn.Module:
        """The same, at random; without the data, the vectors of the few constants are missing from a transformer's."""
        encoder = self.solver.encoder
        bare = dataclasses.replace(encoder, pretrained=False) if encoder is not None else None
        solver = dataclasses.replace(self.solver, encoder=bare)
        try:
            return self._built(solver)
        except InvalidInput:
            if encoder is None:  # its words, too, are those of the data
                raise
            return solver.build(0, 0)

    def scaled(self, width: float) -> Arithmetic:
        """With a narrower network."""
        return dataclasses.replace(self, solver=self.solver.scaled(width))

    def _built(self, solver: Solver) -> Network:
        if solver.encoder is not None:  # which knows its own vocabulary; no tokenizer is needed
            return solver.build(0, len(constants(problems(SOURCES[self.source], self.fold)["train"])))
        return solver.build(self._ready().vocabulary, len(self._ready().constants))

    def data(self, split: Split) -> Sequence[Encoded]:
        return self._ready().splits[split]

    def lengths(self) -> Sequence[int]:
        return [len(each.tokens) for each in self.data("train")]

    def collate(self, examples: list[Any]) -> Batch:
        """Tokens and which are real, places of the quantities (-1: none), the expressions, and perhaps graphs."""
        pad = self._ready().pad
        tokens = _padded([each.tokens for each in examples], pad)
        batch = {
            "tokens": tokens,
            "real": torch.arange(tokens.shape[1]) < torch.tensor([[len(each.tokens)] for each in examples]),
            "places": _padded([each.places for each in examples], -1),
            "targets": _padded([each.targets for each in examples], END),
        }
        if self.solver.kind == "graph2tree":
            batch["graph"] = torch.stack([_links(each, tokens.shape[1]) for each in examples])
        return batch

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Logits of each token of the expression, given those before it."""
        return Outputs(model(batch), batch["targets"] != END)

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy summed over tokens."""
        logits, targets = outputs.logits[outputs.valid], batch["targets"][outputs.valid]
        return F.cross_entropy(logits.float(), targets, reduction="sum"), len(targets)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The five modules, all decayed alike; a pretrained embedding at its own rate."""
        groups: list[dict[str, Any]] = [{"params": list(module.parameters())} for module in model.children()]
        if self.embedding_lr is not None:
            groups[0]["lr"] = self.embedding_lr
        return groups

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        """Accuracies of the expressions that beam search finds; on ``validation`` the greedy ones of some.

        A module in the network's place needs its :meth:`_solvers.Network.solve`.
        """
        known = self._ready()
        data = known.splits[split]
        beams = BEAMS
        if split == "validation":
            data, beams = data[:_LOOK], 1
        order = sorted(data, key=lambda each: -len(each.tokens))
        found: dict[str, str] = {}
        network: Any = sparse_model
        with evaluating(sparse_model) as device:
            for part in chunks(order, batch_size or (256 if device.type == "cuda" else 64)):
                batch = to_device(self.collate(part), device)
                for each, expression in zip(part, network.solve(batch, beams, self.longest), strict=True):
                    found[each.id] = known.written(expression)
        return Evaluation(_scores(data, found), {each.id: found[each.id] for each in data})

    def rescored(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Accuracies of expressions."""
        return _scores(self._asked(predictions), predictions)

    def outcomes(self, predictions: Mapping[str, Any]) -> Outcomes:
        """Which have the right value."""
        asked = self._asked(predictions)
        return outcomes("accuracy", {each.id: [_right(each.problem, predictions)] for each in asked})

    def _asked(self, predictions: Mapping[str, Any]) -> Sequence[Encoded]:
        """The test problems, each of which has an expression now."""
        data, wanted = self.data("test"), f"a text of at most {_LONGEST} characters"
        ids = (each.id for each in data)
        in_order(ids, predictions, wanted, lambda value: isinstance(value, str) and len(value) <= _LONGEST)
        return data

    @property
    def qualification(self) -> Qualification | None:
        """As measured."""
        return _qualified.qualification(self)

    def facts(self) -> dict[str, Any]:
        """The recipe's source, the splits, the constants, and what always giving the same answer reaches."""
        source, known = SOURCES[self.source], self._ready()
        texts = problems(source, self.fold)
        kept, given = len(known.splits["train"]), len(texts["train"])
        commonest = Counter(" ".join(p.equation) for p in texts["train"]).most_common(1)[0][0]
        majority = _scores(known.splits["test"], {p.id: commonest for p in texts["test"]})
        return {
            "data": source.note,
            "training": f"{kept:,} of {given:,} problems; the others hold a constant that occurs less than five times",
            "repeated": f"{repeated(texts)} of {len(texts['test']):,} test problems also stand in training",
            "constants": ", ".join(known.constants) or "none",
            "recipe from": _recipes.source_of(self.recipe),
            "majority": {name: f"{value:.1f}" for name, value in majority.items()},
        }

    def tiny(self) -> Arithmetic:
        encoder = self.solver.encoder
        if encoder is not None:
            encoder = Encoder(encoder.kind, 128, 32, 1, 2, 32, 64, dropout=0.0)
        solver = Solver(self.solver.kind, 32, 32, encoder, layers=1, dropout=0.1)
        kind = "table" if encoder is None else encoder.kind
        name = f"{self.solver.kind}-{kind}-tiny"
        return Arithmetic(name, recipe("tiny-arithmetic"), "svamp-tiny", solver, self.scope, longest=9)

    def identity(self) -> dict[str, Any]:
        """With digests of the problems, of the tokenizer, and of the weights."""
        known, encoder = self._ready(), self.solver.encoder
        weights = {"weights": CHECKPOINTS[encoder.checkpoint or ""].digest()} if self.pretrained and encoder else {}
        return {**super().identity(), "problems": known.digest, "tokens": known.tokens, **weights}

    def _ready(self) -> Ready:
        return ready(SOURCES[self.source], self.fold, self.solver.encoder, self.solver.kind == "graph2tree")


def _padded(rows: Sequence[Any], fill: int) -> Tensor:
    found = np.full((len(rows), max(1, *map(len, rows))), fill, dtype=np.int64)
    for at, row in enumerate(rows):
        found[at, : len(row)] = row
    return torch.from_numpy(found)


def _links(example: Encoded, size: int) -> Tensor:
    """The graphs over words as graphs over tokens, shape (2, size, size); every token is linked to itself."""
    found = np.zeros((len(example.graph), size, size), dtype=bool)
    words = np.flatnonzero(example.word >= 0)
    found[:, words[:, None], words] = example.graph[:, example.word[words][:, None], example.word[words]]
    places = np.arange(len(example.tokens))
    found[:, places, places] = True
    return torch.from_numpy(found)


def _scores(data: Sequence[Encoded], found: Mapping[str, str]) -> dict[str, float]:
    """Value accuracy, and the share of expressions that are the given ones."""
    asked = [each.problem for each in data]
    right = [_right(p, found) for p in asked]
    equal = [found[p.id] == " ".join(p.equation) for p in asked]
    yes = [1] * len(asked)
    return {"accuracy": _metrics.accuracy(yes, right), "accuracy/equation": _metrics.accuracy(yes, equal)}


def _right(problem: Problem, found: Mapping[str, str]) -> bool:
    return is_right(found[problem.id].split(), problem.numbers, problem.answer)


def _whole(task: Arithmetic) -> Task:
    """The task, or of a cross-validation all of its folds."""
    count = SOURCES[task.source].folds
    parts = (dataclasses.replace(task, name=f"{task.name}.{fold}", fold=fold) for fold in range(count))
    return Pooled(task.name, tuple(parts)) if count else task


_GTS, _GRAPH2TREE = Solver("gts", 512, 768, ROBERTA_BASE), Solver("graph2tree", 384, 768, ROBERTA_BASE)
_SMALL = {"gts": Solver("gts", 256, 128), "graph2tree": Solver("graph2tree", 256, 128)}


def _full(source: str, solver: Solver) -> Task:
    name = f"{source}-{solver.kind}"
    return _whole(Arithmetic(name, recipe(name), source, solver, embedding_lr=8e-6 if solver.kind == "gts" else 1e-5))


def _small(source: str, kind: str) -> Task:
    return _whole(Arithmetic(f"{source}-{kind}-small", recipe(f"{source}-small"), source, _SMALL[kind]))


mawps_gts, asdiv_a_gts, svamp_gts = (_full(source, _GTS) for source in ("mawps", "asdiv-a", "svamp"))
mawps_graph2tree, asdiv_a_graph2tree, svamp_graph2tree = (
    _full(source, _GRAPH2TREE) for source in ("mawps", "asdiv-a", "svamp")
)
mawps_gts_small, asdiv_a_gts_small, svamp_gts_small = (_small(s, "gts") for s in ("mawps", "asdiv-a", "svamp"))
mawps_graph2tree_small, asdiv_a_graph2tree_small, svamp_graph2tree_small = (
    _small(s, "graph2tree") for s in ("mawps", "asdiv-a", "svamp")
)
svamp_mini = Arithmetic(
    "svamp-mini", recipe("svamp-mini"), "svamp-mini", Solver("gts", 64, 48, layers=1, dropout=0.0), longest=15
)
