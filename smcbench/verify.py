"""Verification: whether what a submission claims is true, as far as its evidence and this machine can tell.

Four levels, each of which holds the ones before. ``claimed``: the folder is what it should be and contradicts itself
nowhere (:func:`smcbench.results.submission.read_submission`, which raises). ``recompute``: the scores follow from the
predictions by our scorers, the zeros are in the weights, the operations are those of the task's network.
``reevaluate``: the weights, put into the task's model, predict what was predicted. ``retrain``: one cell, run again,
ends alike.

Nothing of a submission is executed or unpickled: its methods and tasks are those that are installed here under the
names it gives, or whose source somebody named by hand.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from torch import nn

from smcbench import cell, files, plugins
from smcbench.checkpoint import fill
from smcbench.errors import InvalidInput, SmcbenchError, UsageError
from smcbench.evidence import as_tensor, digest_of, recount, sizes
from smcbench.flops import Flops
from smcbench.results import predictions
from smcbench.results import record as r
from smcbench.results import weights as weights_
from smcbench.results.aggregate import Level
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import RunRecord
from smcbench.results.submission import (
    MANIFEST,
    RECORDS,
    Submission,
    outcomes_of,
    predictions_of,
    read_submission,
    weights_of,
)
from smcbench.session import Session, build_model
from smcbench.task import Evaluation, Task
from smcbench.trainer import ENGINE

Depth = Literal["claimed", "recompute", "reevaluate", "retrain"]
DEPTHS: tuple[Depth, ...] = get_args(Depth)

SCORES = 1e-6
"""By how much a score may differ from the one recomputed: sums in another order."""
FLOPS = 1e-4
"""By what share operations may differ from those counted here: of what is next to nothing, such as the angles of rotary
positions, one version of transformers makes a product and another does not."""
ANSWERS = 0.01
"""Share of the examples (one at least) whose prediction may be another on another machine, which rounds otherwise."""
NUMBERS = 1e-3
"""By how much a predicted number may differ, of its size or of 1, whichever is more."""
RETRAINED = 0.05
"""Share of the distance from chance by which a score may differ when trained again on another machine."""
SPREADS = 3.0
"""Or standard deviations of the seeds of that row, if these are more."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was claimed: in which file, of which run (of all, if None), and what."""

    where: str
    what: str
    run: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {f'run {self.run}: ' if self.run else ''}{self.what}"


@dataclass(frozen=True)
class Report:
    """What a verification found.

    Attributes:
        submission: its name.
        manifest: SHA-256 of its manifest, which names all else.
        level: how far it was asked to go.
        reached: how far each run got.
        findings: what is wrong; none: nothing is.
        notes: what else is worth knowing, one line each.
    """

    submission: str
    manifest: str
    level: Depth
    reached: Mapping[str, Level]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def verify(
    folder: Path,
    level: Depth = "recompute",
    *,
    subset: int | None = None,
    trusted: Sequence[str] = (),
    tasks: Mapping[str, Task] | None = None,
    draw: random.Random | None = None,
    device: str = "cpu",
) -> Report:
    """Check a submission up to a level.

    Args:
        folder: of the submission.
        level: how far to go.
        subset: predict only so many test examples, drawn at random, where the task allows that.
        trusted: methods that are not installed, as the command line names them (``./mine.py:Mine``), whose source
            somebody has read: only these are ever run.
        tasks: by name; default: those that are installed.
        draw: what is drawn at random; default: something nobody can foresee.
        device: for predicting and training.

    Raises:
        InvalidInput: it fails at ``claimed``; the message names the file.
        UsageError: what was asked for cannot be done here.
    """
    submission = read_submission(folder)
    methods = [_trusted(text) for text in trusted]
    check = _Check(folder, submission, level, methods, tasks, draw or random.SystemRandom(), device)
    reached: dict[str, Level] = {record.run: "claimed" for record in submission.records}
    wanted = DEPTHS.index(level)
    if wanted >= DEPTHS.index("recompute"):
        reached |= check.recomputed()
    if wanted >= DEPTHS.index("reevaluate"):
        reached |= check.reevaluated(subset)
    if wanted >= DEPTHS.index("retrain"):
        reached |= check.retrained()
    suspect = {finding.run for finding in check.findings}
    return Report(
        submission.manifest.name,
        files.sha256((folder / MANIFEST).read_bytes()),
        level,
        {run: "claimed" if run in suspect else how for run, how in reached.items()},
        tuple(check.findings),
        tuple(check.notes),
    )


class _Method(NamedTuple):
    """A sparsifier with the text that names it."""

    text: str
    named: plugins.Named


class _Check:
    """One verification: what is checked, and what was found so far."""

    def __init__(
        self,
        folder: Path,
        submission: Submission,
        level: Depth,
        trusted: Sequence[_Method],
        tasks: Mapping[str, Task] | None,
        draw: random.Random,
        device: str,
    ) -> None:
        self.folder, self.submission, self.trusted, self.draw, self.device = folder, submission, trusted, draw, device
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.by_task: dict[Task, list[RunRecord]] = {}
        by_name: dict[str, list[RunRecord]] = defaultdict(list)
        for record in submission.records:
            by_name[record.spec.task.name].append(record)
        for name, records in by_name.items() if level != "claimed" else ():
            if (task := self._task(name, records[0].spec.task.digest, tasks)) is not None:
                self.by_task[task] = records
        self.methods = {record.run: self._method(record) for records in self.by_task.values() for record in records}

    def found(self, where: str, what: str, run: str | None = None) -> None:
        self.findings.append(Finding(str(self.folder / where), what, run))

    def _task(self, name: str, digest: str, tasks: Mapping[str, Task] | None) -> Task | None:
        """The task of this name, if it is here in the same version; never one that a name would have to import."""
        try:
            if tasks is None and (":" in name or name.partition("@")[0] not in plugins.installed("tasks")):
                raise UsageError("it is not installed")
            task = plugins.load_task(name) if tasks is None else tasks[name]
        except (SmcbenchError, KeyError) as error:
            self.found(RECORDS, f"{name} cannot be verified here: {error}")
            return None
        if task.digest() != digest:
            self.found(RECORDS, f"{name} cannot be verified here: it is another version of the task")
            return None
        return task

    def _method(self, record: RunRecord) -> _Method | None:
        """The method of a record: one that was trusted, or one that is installed under its label."""
        for each in self.trusted:
            if _is_of(each.named, record):
                return each
        label = record.spec.sparsifier.label
        named = plugins.known(label)
        return _Method(label, named) if named is not None and _is_of(named, record) else None

    def _network(self, task: Task, record: RunRecord) -> Task:
        """The task whose network the method trains, in whichever version it is here."""
        method = self.methods[record.run]
        named = plugins.known(record.spec.sparsifier.label) if method is None else method.named
        return task if named is None else named.sparsifier.network(task, record.spec.sparsity)

    # -- recompute

    def recomputed(self) -> dict[str, Level]:
        """Scores, outcomes, operations, and of the runs whose weights are there the zeros."""
        reached: dict[str, Level] = {}
        for task, records in self.by_task.items():
            by_run = predictions.read_runs(self.folder / predictions_of(task.name))
            for record in records:
                self._named(task, record)
                with_weights = self.submission.weights.get(task.name) == record.run
                if self._rescored(task, record, by_run[record.run]):
                    reached[record.run] = "recompute" if with_weights else "recompute (scores)"
                self._billed(task, record)
                if with_weights:
                    self._recounted(task, record)
        return reached

    def _named(self, task: Task, record: RunRecord) -> None:
        """Whether what groups and scales a score is what the task says: scope and family, metric and chance."""
        place = r.TaskRef(task.name, task.version, task.digest(), task.scope, task.family)
        metric = r.MetricInfo(**dataclasses.asdict(task.metric))
        for what, theirs, mine in (("task", record.spec.task, place), ("metric", record.metric, metric)):
            if theirs != mine:
                self.found(RECORDS, f"the {what} is {theirs}, here it is {mine}", record.run)

    def _rescored(self, task: Task, record: RunRecord, by_id: Mapping[str, Any]) -> bool:
        """Whether scores follow from predictions at all; what does not follow is found."""
        where = predictions_of(task.name)
        try:
            scores, outcomes = task.rescored(by_id), task.outcomes(by_id)
        except UsageError as error:
            self._note(f"{where}: {error}")
            return False
        except InvalidInput as error:
            self.found(where, str(error), record.run)
            return True
        for name in sorted(scores.keys() | record.scores.keys()):
            mine, theirs = scores.get(name, math.nan), record.scores.get(name, math.nan)
            if not abs(mine - theirs) <= SCORES:
                self.found(RECORDS, f"{name} is {theirs:.6f}, its predictions give {mine:.6f}", record.run)
        theirs_ = self.submission.outcomes.get(record.run)
        if theirs_ is not None and (what := _differing(theirs_, outcomes, sorted(by_id))):
            self.found(outcomes_of(task.name), what, record.run)
        return True

    def _billed(self, task: Task, record: RunRecord) -> None:
        """Operations, as the task's network and the densities of the record make them."""
        network, budget, cost = self._network(task, record), record.spec.budget, record.cost
        parts = list(zip(task.parts, network.parts, strict=True))
        layers = _apart(record.sparsity.layers, len(parts))
        own = [_operations(part, budget) for part, _ in parts]
        steps = [part.recipe.stretched(budget).steps for part, _ in parts]
        sizes = [part.recipe.stretched(budget).batch_size for part, _ in parts]
        inference = [
            _operations(inner, budget).inference(_within(some, part, inner)) / size
            for (part, inner), some, size in zip(parts, layers, sizes, strict=True)
        ]
        for name, theirs, mine in (
            ("budget_flops", cost.budget_flops, sum(n * round(f.step()) for n, f in zip(steps, own, strict=True))),
            ("inference_flops_dense", cost.inference_flops_dense,
             sum(f.inference() / size for f, size in zip(own, sizes, strict=True)) / len(parts)),
            ("inference_flops", cost.inference_flops, sum(inference) / len(parts)),
        ):  # fmt: skip
            if not math.isclose(theirs, mine, rel_tol=FLOPS):
                self.found(RECORDS, f"cost: {name} is {theirs:.6g}, the network takes {mine:.6g}", record.run)
        if len(parts) == 1:
            least = _least(record, network, steps[0], _within(layers[0], *parts[0]))
            if cost.train_flops < least * (1 - FLOPS):
                what = f"cost: train_flops is {cost.train_flops:.6g}, its steps take {least:.6g} at least"
                self.found(RECORDS, what, record.run)
            dense = cost.steps * round(own[0].step())
            if cost.train_flops_dense < dense * (1 - FLOPS):
                what = f"cost: train_flops_dense is {cost.train_flops_dense:.6g}, its steps take {dense:.6g}"
                self.found(RECORDS, what, record.run)
            category = r.category_of(record.conduct, cost.steps, steps[0])
            if category != record.category:
                self.found(RECORDS, f"category is {record.category}, its conduct is {category}", record.run)

    def _recounted(self, task: Task, record: RunRecord) -> None:
        """Zeros by tensor and over four denominators, and the digest, from the bytes of the weights."""
        where, network = weights_of(task.name), self._network(task, record)
        weights = weights_.read(self.folder / where)
        try:
            digest = digest_of(weights, network)
            counts, layers = recount(weights, task, network)
        except InvalidInput as error:
            self.found(where, str(error), record.run)
            return
        if digest != record.digests.weights:
            self.found(
                where, "its tensors are not those of the run: their digest is another than in its record", record.run
            )
        claimed = record.sparsity.layers
        for name in sorted(layers.keys() | claimed.keys()):
            mine, theirs = layers.get(name, math.nan), claimed.get(name, math.nan)
            if not abs(mine - theirs) <= 1e-12:
                self.found(where, f"{name}: the density is {mine:.9f}, in {RECORDS} {theirs:.9f}", record.run)
        for f in dataclasses.fields(counts):
            ours, given = getattr(counts, f.name), getattr(record.sparsity.denominators, f.name)
            if ours != given:
                told = [f"{each.zeros:,} zeros in {each.weights:,}" for each in (ours, given)]
                self.found(where, f"{f.name}: {told[0]}, in {RECORDS} {told[1]}", record.run)

    # -- reevaluate

    def reevaluated(self, subset: int | None) -> dict[str, Level]:
        """What the weights predict."""
        reached: dict[str, Level] = {}
        for task, records in self.by_task.items():
            record = next((each for each in records if each.run == self.submission.weights.get(task.name)), None)
            if record is None:
                self._note(f"{task.name}: there are no weights to evaluate")
                continue
            where = weights_of(task.name)
            model = build_model(self._network(task, record), 0, self.device)
            tensors = {n: as_tensor(a) for n, a in weights_.read(self.folder / where).tensors.items()}
            try:
                fill(model, tensors, where, task.name)
            except InvalidInput as error:
                self.found(where, str(error).removeprefix(f"{where}: "), record.run)
                continue
            claimed = predictions.read_runs(self.folder / predictions_of(task.name))[record.run]
            found = _evaluated(task, model, subset, self.draw).predictions
            differing = [id_ for id_ in found if not _agree(found[id_], claimed.get(id_))]
            allowed = max(1, round(ANSWERS * len(found)))
            told = f"{len(differing)} of {len(found)} predictions differ from what the weights predict"
            if len(differing) > allowed:
                first = differing[0]
                what = f"{told}, {allowed} may; such as {first!r}: {claimed.get(first)!r:.60}, not {found[first]!r:.60}"
                self.found(predictions_of(task.name), what, record.run)
            else:
                self._note(f"{task.name}: {told}" if differing else f"{task.name}: all {len(found)} predictions agree")
                reached[record.run] = "reevaluate"
        return reached

    # -- retrain

    def retrained(self) -> dict[str, Level]:
        """One cell run again."""
        can = [(task, record, method) for task, records in self.by_task.items() for record in records
               if (method := self.methods[record.run]) is not None and record.provenance.engine == ENGINE]  # fmt: skip
        if not can:
            label = self.submission.manifest.sparsifier
            if self.trusted:
                named = " and ".join(each.text for each in self.trusted)
                raise UsageError(
                    f"{named} is not what was run: its source, its version or its parameters are others than in the "
                    f"records of {label}; name the file that they come from"
                )
            raise UsageError(
                f"{label} cannot be run here in the version of the records; read its source, "
                "then name it with --trust, as in --trust ./mine.py:Mine"
            )
        task, record, method = self.draw.choice(can)
        spec = record.spec
        again = cell.run(
            task, method.text, spec.sparsity, spec.seed, budget=spec.budget, options=cell.Options(device=self.device)
        )
        name = f"{spec.task.name} at {spec.sparsity:.3f} seed {spec.seed}"
        if again.digests == record.digests:
            self._note(f"{name}, run again, has the same bits")
        else:
            self._note(f"{name}, run again, gives {again.score:.4f} instead of {record.score:.4f}")
        allowed = self._allowed(record)
        if abs(again.score - record.score) > allowed:
            what = f"the score is {record.score:.4f}; run again it is {again.score:.4f}, more than {allowed:.4f} off"
            self.found(RECORDS, f"{name}: {what}", record.run)
        # Where the mask hangs on the numbers, so may the steps and their cost; with the same bits nothing may.
        slack = FLOPS if again.digests == record.digests else RETRAINED
        for key in ("steps", "gradient_evaluations", "train_flops", "train_flops_dense"):
            mine, theirs = getattr(again.cost, key), getattr(record.cost, key)
            if not math.isclose(mine, theirs, rel_tol=slack):
                self.found(RECORDS, f"{name}: cost: {key} is {theirs:.6g}; run again it is {mine:.6g}", record.run)
        return {record.run: "retrain"}

    def _allowed(self, record: RunRecord) -> float:
        """By how much a score may differ from that of the same cell on another machine."""
        spec = record.spec
        row = [e.score for e in self.submission.records
               if (e.spec.task, e.spec.sparsity, e.spec.budget) == (spec.task, spec.sparsity, spec.budget)]  # fmt: skip
        spread = float(np.std(row, ddof=1)) if len(row) > 1 else 0.0
        return max(RETRAINED * abs(record.score - record.metric.chance), SPREADS * spread)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _trusted(text: str) -> _Method:
    return _Method(text, plugins.load_sparsifier(text))


def _is_of(named: plugins.Named, record: RunRecord) -> bool:
    """Whether a run of this method would have the id of the record."""
    mine = dataclasses.replace(record.spec, sparsifier=cell.reference(named))
    return mine.run_id(record.provenance.engine) == record.run


def _differing(theirs: Outcomes, mine: Outcomes, ids: Sequence[str]) -> str | None:
    """How two outcomes of the same examples differ."""
    if theirs.kind != mine.kind:
        return f"its outcomes are of the kind {theirs.kind}, the predictions give {mine.kind}"
    rows = np.flatnonzero(~np.isclose(theirs.values, mine.values, rtol=1e-9, atol=1e-9).all(axis=1))
    if len(rows):
        row = int(rows[0])
        given, right = (" ".join(f"{v:g}" for v in each.values[row]) for each in (theirs, mine))
        more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
        return f"example {ids[row]!r} has the outcome {given}, its prediction gives {right}{more}"
    for name in ("groups", "weights", "units"):
        if not np.array_equal(getattr(theirs, name), getattr(mine, name)):
            return f"its {name} are not those of the task"
    return None


# -- operations


@functools.lru_cache(maxsize=64)
def _operations(task: Task, budget: float) -> Flops:
    """Of a step of one training, dense."""
    recipe = task.recipe.stretched(budget)
    stretched = task if budget == 1 else dataclasses.replace(task, recipe=recipe)  # type: ignore[type-var]
    return Session(stretched, build_model(task, 0), recipe).flops


def _least(record: RunRecord, network: Task, recipe: int, densities: Mapping[str, float]) -> float:
    """A lower bound of the operations of training.

    Of a mask that never moved it is what its steps take; of others, what they took if as many weights as in the end
    were kept in whichever layers are the cheapest. No method is known that trains sparser than what it hands in.
    """
    flops = _operations(network, record.spec.budget)
    still = record.conduct.last_prune in (None, 0) and record.cost.steps == recipe
    under = densities if still else _cheapest(flops, sizes(network)["scope"], record.sparsity.kept)
    return record.cost.steps * flops.step(under, under)


def _cheapest(flops: Flops, sizes: Mapping[str, int], kept: int) -> dict[str, float]:
    """Densities by layer with so many weights in all, and as few operations of a step as can be."""

    def price(name: str) -> float:
        return sum(part.get(name, 0.0) for part in (flops.forward, flops.backward_input, flops.backward_weight))

    densities = {}
    for name in sorted(sizes, key=lambda name: price(name) / sizes[name]):
        densities[name] = min(kept, sizes[name]) / sizes[name]
        kept -= min(kept, sizes[name])
    return densities


def _apart(layers: Mapping[str, float], parts: int) -> list[dict[str, float]]:
    """Densities by part."""
    if parts == 1:
        return [dict(layers)]
    return [
        {name.partition(".")[2]: value for name, value in layers.items() if name.partition(".")[0] == str(number)}
        for number in range(parts)
    ]


def _within(layers: Mapping[str, float], task: Task, network: Task) -> dict[str, float]:
    """Densities of the layers of the task's network as those of the smaller network that stands for it."""
    if network is task:
        return dict(layers)
    whole, own = sizes(task)["scope"], sizes(network)["scope"]
    return {name: layers.get(name, 1.0) * whole[name] / own[name] for name in own}


# -- predictions


def _evaluated(task: Task, model: nn.Module, subset: int | None, draw: random.Random) -> Evaluation:
    """What a model predicts on the test split, or on some of it where the task does not mind."""
    if subset is not None and len(task.parts) == 1 and subset < len(data := task.data("test")):
        part, chosen = copy.copy(task), _Some(data, sorted(draw.sample(range(len(data)), subset)))
        object.__setattr__(part, "data", lambda split: chosen if split == "test" else task.data(split))
        try:
            found = part.evaluate(model, "test")
        except Exception:  # it scores the whole or nothing
            found = None
        if found is not None and len(found.predictions) == subset:
            return found
    return task.evaluate(model, "test")


class _Some(Sequence[Any]):
    """Some examples of a split; what the split says of each example, such as their lengths, it says of these."""

    def __init__(self, whole: Sequence[Any], places: Sequence[int]) -> None:
        self._whole, self._places = whole, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._whole[place] for place in self._places[index]]
        return self._whole[self._places[index]]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._whole, name)
        of_each = isinstance(value, Sequence) and len(value) == len(self._whole)
        return [value[place] for place in self._places] if of_each else value


def _agree(mine: Any, theirs: Any) -> bool:
    """Whether two predictions are the same; numbers that are no classes only nearly."""
    if isinstance(mine, float) and type(theirs) in (int, float):
        return bool(abs(mine - theirs) <= NUMBERS * max(1.0, abs(mine)))
    return bool(mine == theirs)
