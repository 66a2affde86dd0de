"""The executable contract of sparsifiers and tasks: what ``smcbench check`` runs, and what your own tests may call.

It asks torch for determinism, for the rest of the process: :func:`.seeds.be_deterministic`.

>>> from dataclasses import dataclass
>>> from smcbench import Session, Sparsifier
>>> from smcbench.criteria import magnitude
>>> @dataclass(frozen=True)
... class Mine(Sparsifier):
...     def sparsify(self, session: Session, sparsity: float) -> None:
...         session.prune(magnitude(session), density=1 - sparsity)
...         session.train()
>>> check_sparsifier(Mine())
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import itertools
import json
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smcbench import files, plugins
from smcbench.cell import Skipped as Skipped
from smcbench.cell import classified, verified
from smcbench.errors import InvalidInput, UsageError
from smcbench.feed import TaskFeed, to_device
from smcbench.journal import Journal
from smcbench.recipe import Recipe
from smcbench.results import record
from smcbench.results.outcomes import Outcomes, outcomes
from smcbench.seeds import be_deterministic
from smcbench.session import Session, build_model
from smcbench.sparsifier import Sparsifier
from smcbench.sparsity.mask import Mask
from smcbench.state import digest, named_tensors
from smcbench.task import Batch, Evaluation, Metric, Outputs, Scope, Split, Task, in_order, nearest, prunable_weights
from smcbench.trainer import Step

_KILLS = 5
"""How often, at least, a sparsifier is killed on its way."""


@dataclass(frozen=True)
class Check:
    """One promise of the contract; calling it raises if the promise is not kept.

    Attributes:
        name: what is promised, in a few words.
        run: raises ``AssertionError`` with one line that says what is wrong, or ``cell.Skipped`` with the reason why
            the promise cannot be put to the test.
    """

    name: str
    run: Callable[[], None]


def check_sparsifier(
    sparsifier: Sparsifier | str,
    task: Task | None = None,
    sparsity: float = 0.75,
    *,
    short: bool = False,
    device: str = "cpu",
) -> None:
    """Put a sparsifier to the test; see :func:`sparsifier_checks`.

    Raises:
        AssertionError: it breaks its contract; one line says which promise and how.
        Skipped: it does not apply to the task at this sparsity.
    """
    for check in sparsifier_checks(sparsifier, task, sparsity, short=short, device=device):
        check.run()


def check_task(task: Task | str, device: str = "cpu") -> None:
    """Put a task to the test; see :func:`task_checks`.

    Raises:
        AssertionError: it breaks its contract; one line says which promise and how.
    """
    for check in task_checks(task, device):
        with contextlib.suppress(Skipped):  # of a task whose data are not here, the rest can be told
            check.run()


def sparsifier_checks(
    sparsifier: Sparsifier | str,
    task: Task | None = None,
    sparsity: float = 0.75,
    *,
    short: bool = False,
    device: str = "cpu",
) -> list[Check]:
    """The contract of a sparsifier, promise by promise; trainings are shared between them.

    Args:
        sparsifier: an instance, or a name as the command line takes it.
        task: where to try it, best a tiny one; default: :class:`ToyTask`.
        sparsity: what to ask of it.
        short: only what a single run shows; left out is that a second one, and one that was killed, end the same.
        device: where it trains.
    """
    trial = _Trial(sparsifier, task or ToyTask(), sparsity, device)
    category = {"its conduct is that of its category": trial.category} if trial.sparsifier.category else {}
    again = {
        "the same seed gives the same bits": trial.deterministic,
        "killed and resumed, it ends with the same bits and the same bill": trial.resumes,
    }
    return _checks(
        {
            "its hyper-parameters are frozen and can be written down": trial.parameters,
            "it reaches the sparsity exactly": trial.exact,
            "pruned weights are zero after every step": trial.stay_zero,
            "it leaves all other weights alone": trial.others,
            **category,
            **({} if short else again),
        }
    )


def task_checks(task: Task | str, device: str = "cpu") -> list[Check]:
    """The contract of a task, promise by promise; what trains, trains its tiny variant, on the device."""
    trial = _TaskTrial(plugins.load_task(task) if isinstance(task, str) else task, device)
    return _checks(
        {
            "its identity can be written down and is stable": trial.identity,
            "its splits are disjoint": trial.splits,
            "its prunable weights are trainable": trial.prunable,
            "its model is a function of the seed": trial.model,
            "its data order is a function of the seed": trial.order,
            "its loss is a sum over a count": trial.loss,
            "its tiny variant trains to a falling loss": trial.falls,
            "its evaluation changes nothing": trial.pure,
            "its scores are in range and can be traced to examples": trial.in_range,
            "its scores are the same at any batch size": trial.any_batch_size,
            "its scores follow from its predictions": trial.rescored,
        }
    )


def _checks(promises: dict[str, Callable[[], None]]) -> list[Check]:
    return [Check(name, functools.partial(_hold, name, promise)) for name, promise in promises.items()]


def _hold(name: str, promise: Callable[[], None]) -> None:
    try:
        promise()
    except Skipped:
        raise
    except AssertionError as broken:
        raise AssertionError(f"{name}: no; {broken}") from broken.__cause__
    except Exception as error:
        raise AssertionError(f"{name}: no; {classified(error, 'it')[1]}") from error


# -- the toy task


class _ToyExample(NamedTuple):
    id: str
    image: Tensor
    label: int


class _ToyModel(nn.Module):
    """A little of all that masks get wrong: a convolution, batch norm, dropout, a tied pair and a frozen matrix."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.project = nn.Linear(64, width)
        self.project.weight.requires_grad_(False)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.head = nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(image))).flatten(1)
        x = F.relu(self.first(self.project(x)))
        x = F.relu(self.second(F.dropout(x, 0.1, self.training)))
        return self.head(x)  # type: ignore[no-any-return]


@functools.cache
def _toy_data() -> dict[str, list[_ToyExample]]:
    draw = torch.Generator().manual_seed(0)
    centers = torch.randn(4, 1, 4, 4, generator=draw)
    sizes, found = {"train": 96, "validation": 32, "test": 48}, {}
    for split, size in sizes.items():
        noise = torch.randn(size, 1, 4, 4, generator=draw)
        found[split] = [_ToyExample(f"toy/{split}/{i}", centers[i % 4] + noise[i], i % 4) for i in range(size)]
    return found


_TOY_RECIPE = Recipe(steps=16, batch_size=32, lr=0.01, weight_decay=0.01, warmup=0.1, clip=1.0)


@dataclass(frozen=True)
class ToyTask(Task):
    """Four clouds of generated 4x4 images: the smallest task there is; a training takes a tenth of a second."""

    name: str = "toy"
    recipe: Recipe = _TOY_RECIPE
    scope: Scope = "all"
    width: int = 16

    family: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    metric: ClassVar[Metric] = Metric("accuracy", chance=25.0)

    def build_model(self) -> nn.Module:
        """356 prunable weights, 1,024 frozen ones."""
        return _ToyModel(self.width)

    def scaled(self, width: float) -> ToyTask:
        """With a narrower hidden layer."""
        return dataclasses.replace(self, width=nearest(self.width * width))

    def data(self, split: Split) -> Sequence[_ToyExample]:
        """Generated once, from a fixed seed."""
        return _toy_data()[split]

    def collate(self, examples: list[Any]) -> Batch:
        """Images and labels."""
        return {
            "image": torch.stack([example.image for example in examples]),
            "label": torch.tensor([example.label for example in examples]),
        }

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Logits of the four classes."""
        return Outputs(model(batch["image"]))

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy."""
        return F.cross_entropy(outputs.logits, batch["label"], reduction="sum"), len(batch["label"])

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        """Accuracy."""
        examples, was_training = self.data(split), sparse_model.training
        device, size = next(sparse_model.parameters()).device, batch_size or 64
        predictions: dict[str, int] = {}
        sparse_model.eval()
        with torch.no_grad():
            for start in range(0, len(examples), size):
                part = list(examples[start : start + size])
                logits = sparse_model(self.collate(part)["image"].to(device))
                predictions |= zip((example.id for example in part), logits.argmax(dim=1).tolist(), strict=True)
        sparse_model.train(was_training)
        return Evaluation(_accuracy(examples, predictions), predictions)

    def rescored(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Accuracy."""
        self._given(predictions)
        return _accuracy(self.data("test"), predictions)

    def outcomes(self, predictions: Mapping[str, Any]) -> Outcomes:
        """Which are right."""
        self._given(predictions)
        return outcomes("accuracy", {e.id: [predictions[e.id] == e.label] for e in self.data("test")})

    def _given(self, predictions: Mapping[str, Any]) -> None:
        ids = (example.id for example in self.data("test"))
        in_order(ids, predictions, "one of 4 classes, from 0", lambda value: type(value) is int and 0 <= value < 4)

    def tiny(self) -> ToyTask:
        """It is tiny."""
        return self


def _accuracy(examples: Sequence[_ToyExample], predictions: Mapping[str, int]) -> dict[str, float]:
    right = sum(predictions[example.id] == example.label for example in examples)
    return {"accuracy": 100 * right / len(examples)}


# -- sparsifiers


class _Killed(BaseException):
    """Stands for SIGKILL; no sparsifier may catch it."""


class _TimelyJournal(Journal):
    """Writes the phase in flight when it is told to."""

    due = False

    def is_due(self) -> bool:
        return self.due


Watch = Callable[[Session, Step], None]


def _watched(before: Watch, after: Watch) -> type[Session]:
    """Sessions, forks included, that call out after each weight update: before and after it is entered in the books."""

    class Watched(Session):
        def _loop(self, recipe: Any, loss: Any, reparam: Any, updated: Callable[[Step, Any], None]) -> Any:
            def all_three(step: Step, made: Any) -> None:
                before(self, step)
                updated(step, made)
                after(self, step)

            return super()._loop(recipe, loss, reparam, all_three)

    return Watched


def _nothing(session: Session, step: Step) -> None:
    pass


def _disturb(session: Session | None = None, step: Step | None = None) -> None:
    """Leave the global random number generators where nobody expects them."""
    for scramble in (torch.manual_seed, np.random.seed, random.seed):
        scramble(random.SystemRandom().randrange(2**32))


class _Trial:
    """A sparsifier on a task."""

    def __init__(self, sparsifier: Sparsifier | str, task: Task, sparsity: float, device: str) -> None:
        be_deterministic()
        named = plugins.load_sparsifier(sparsifier) if isinstance(sparsifier, str) else None
        self.text = sparsifier if isinstance(sparsifier, str) else None
        self.sparsifier = sparsifier if isinstance(sparsifier, Sparsifier) else named.sparsifier  # type: ignore[union-attr]
        self.label = named.label if named else repr(sparsifier)
        self.task, self.sparsity, self.device = task, sparsity, torch.device(device)
        self.updates, self.revived = 0, ""

    def run(
        self, before: Watch = _nothing, after: Watch = _nothing, journal: Journal | None = None, disturbed: bool = False
    ) -> Session:
        """One training in full; ``disturbed`` puts other global random states before it."""
        reason = self.sparsifier.skip(self.task, self.sparsity)
        if reason is not None:
            raise Skipped(f"{self.label} skips {self.task.name} at sparsity {self.sparsity:.3f}: {reason}")
        model = build_model(self.network, 0, self.device)
        session = _watched(before, after)(self.network, model, self.task.recipe, 0, journal=journal)
        if disturbed:
            _disturb()
        self.sparsifier.sparsify(session, self.sparsity)
        return session

    @functools.cached_property
    def network(self) -> Task:
        """The task whose network is trained."""
        return self.sparsifier.network(self.task, self.sparsity)

    @functools.cached_property
    def reference(self) -> Session:
        """The undisturbed run, watched at every step."""

        def watch(session: Session, step: Step) -> None:
            self.updates += 1
            for name, weight in session.weights.items():
                if (alive := int(torch.count_nonzero(weight.detach() * ~session.mask[name]))) and not self.revived:
                    self.revived = f"{alive} pruned weights of {name!r} are not zero after step {step.index}"

        return self.run(after=watch)

    def parameters(self) -> None:
        kind = type(self.sparsifier)
        assert dataclasses.is_dataclass(kind), (
            f"{kind.__name__} is no dataclass; decorate it with @dataclass(frozen=True)"
        )
        frozen = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert frozen, f"{kind.__name__} can be changed; decorate it with @dataclass(frozen=True)"
        for key, value in self.sparsifier.parameters().items():
            try:
                files.canonical(value)
            except (TypeError, ValueError) as error:
                raise AssertionError(f"the hyper-parameter {key!r} is no JSON value: {error}") from None
        call = ast.parse(repr(self.sparsifier), mode="eval").body
        assert isinstance(call, ast.Call), f"its repr is {self.sparsifier!r}, it must be that of a dataclass"
        read = kind(**{str(word.arg): ast.literal_eval(word.value) for word in call.keywords})
        assert read == self.sparsifier, f"written as {self.sparsifier!r} it is read as {read!r}"
        for name, values in self.sparsifier.presets.items():
            try:
                kind(**values)
            except Exception as error:
                raise AssertionError(f"its preset {name!r} does not fit its hyper-parameters: {error}") from None
        if self.text is not None:
            name = self.text.split("(")[0].split("@")[0].strip()
            written = f"{name}({repr(self.sparsifier).partition('(')[2]}"
            again = plugins.load_sparsifier(written).sparsifier
            assert again == self.sparsifier, f"{written} is read as {again!r}"

    def exact(self) -> None:
        session, fresh = self.reference, build_model(self.network, 0, self.device)
        shapes = {name: p.shape for name, p in fresh.named_parameters()}
        whole = None if self.network is self.task else prunable_weights(self.task)
        verified(session.model, shapes, self.network.prunable(fresh), session, self.sparsity, self.label, whole)

    def stay_zero(self) -> None:
        _ = self.reference
        assert not self.revived, self.revived

    def others(self) -> None:
        session = self.reference
        before = dict(build_model(self.network, 0, self.device).named_parameters())
        for name, parameter in session.model.named_parameters():
            if name in session.weights:
                continue
            if not before[name].requires_grad:
                assert torch.equal(parameter, before[name]), f"the frozen parameter {name!r} was changed"
            lost = int(((parameter == 0) & (before[name] != 0)).sum())
            assert not lost, f"{lost} weights of {name!r} are zero now, but they are not prunable"

    def category(self) -> None:
        session, declared = self.reference, self.sparsifier.category or ()
        found = record.category_of(record.Conduct(**session.conduct.as_dict()), session.account.steps,
                                   self.task.recipe.steps)  # fmt: skip
        measured = (found.when, found.start, found.mask)
        assert measured == tuple(declared), f"it declares {', '.join(declared)}, but measured is {found}"

    def deterministic(self) -> None:
        again = self.run(after=_disturb, disturbed=True)
        _same(self.reference, again, "in the second run", "; use session.generator for all that is random")

    def resumes(self) -> None:
        expected = self.reference
        stride = self.updates // _KILLS + 2
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(_KILLS + 2):
                journal, countdown = _TimelyJournal(Path(folder), "contract", wait=True), itertools.count(1)

                def die(
                    session: Session,
                    step: Step,
                    journal: _TimelyJournal = journal,
                    countdown: Iterator[int] = countdown,
                ) -> None:
                    now = next(countdown)
                    journal.due = now == stride - 1  # the last step before the kill
                    if now == stride:
                        raise _Killed

                try:
                    resumed = self.run(before=die, journal=journal)
                except _Killed:
                    continue
                return _same(expected, resumed, "once resumed", "; what must survive belongs into session.memory")
        raise AssertionError(f"it takes ever more steps: killed every {stride} of {self.updates} steps it does not end")


def _same(one: Session, other: Session, when: str, hint: str) -> None:
    ours, theirs = _left(one), _left(other)
    for name in [*ours, *(theirs.keys() - ours.keys())]:
        assert ours.get(name) == theirs.get(name), (
            f"{name} is {_brief(ours.get(name))}, but {_brief(theirs.get(name))} {when}{hint}"
        )


def _brief(value: Any) -> str:
    return f"of digest {value[:8]}" if isinstance(value, str) and len(value) == 64 else repr(value)


def _left(session: Session) -> dict[str, Any]:
    """All that a sparsifier leaves behind but the time it took, by name."""
    left: dict[str, Any] = {f"the mask of {name!r}": digest([("", bits)]) for name, bits in session.mask.items()}
    left |= {f"the tensor {name!r}": digest([("", tensor)]) for name, tensor in named_tensors(session.model)}
    left["the whole"] = session.snapshot().digest()
    left["the state of session.generator"] = digest([("", session.generator.get_state())])
    for key, value in session.memory.items():
        tensors = [("", value)] if isinstance(value, Tensor) else value.items() if isinstance(value, Mask) else None
        left[f"session.memory[{key!r}]"] = repr(value) if tensors is None else digest(tensors)
    account = {key: value for key, value in session.account.as_dict().items() if "seconds" not in key}
    left |= {f"the bill's {key!r}": value for key, value in account.items()}
    return left | {f"the conduct's {key!r}": value for key, value in session.conduct.as_dict().items()}


# -- tasks


class _TaskTrial:
    """A task; trained is its tiny variant."""

    def __init__(self, task: Task, device: str) -> None:
        be_deterministic()
        self.task, self.device = task, torch.device(device)
        self.tiny = task.tiny()
        self.absent = next((need for need in task.requirements() if need.state() != "local"), None)

    @functools.cached_property
    def trained(self) -> tuple[nn.Module, list[float]]:
        """The tiny model after one dense training, and its losses."""
        session = Session(self.tiny, build_model(self.tiny, 0, self.device), self.tiny.recipe)
        return session.model, [step.loss.item() for step in session.steps()]

    def identity(self) -> None:
        for task in (self.task, self.tiny):
            kind = type(task)
            assert dataclasses.is_dataclass(task), f"{kind.__name__} is no dataclass; decorate it with frozen=True"
            assert kind.__dataclass_params__.frozen, f"{kind.__name__} can be changed; decorate it with frozen=True"
            assert task.scope in get_args(Scope), f"its scope is {task.scope!r}, it must be one of {get_args(Scope)}"
            for key in ("name", "family"):
                text = getattr(task, key)
                assert isinstance(text, str), f"its {key} is {text!r}, it must be text"
                assert text, f"its {key} is empty"
            assert isinstance(task.version, int), f"its version is {task.version!r}, it must be a whole number"
            if task is self.task and self.absent:  # what it reads is part of its identity
                continue
            try:
                files.canonical(task.identity())
            except (TypeError, ValueError) as error:
                raise AssertionError(f"its identity is no JSON value: {error}") from None
            again = dataclasses.replace(task)
            assert task.digest() == again.digest(), "made a second time, it has another digest"
        assert self.task.tiny() == self.tiny, "tiny() gives another task each time"
        if self.tiny != self.task and not self.absent:
            assert self.tiny.digest() != self.task.digest(), "its tiny variant has the digest of the task itself"

    def splits(self) -> None:
        if self.absent:
            raise Skipped(f"{self.absent.kind} {self.absent.name} is in no local folder; see smcbench data list")
        seen: dict[str, str] = {}
        for split in get_args(Split):
            examples = self.task.data(split)
            assert len(examples), f"the split {split!r} is empty"
            for example in examples:
                key = getattr(example, "id", None)
                assert isinstance(key, str), f"an example of {split!r} has no id; give examples a field id: str"
                assert key not in seen, f"the example {key!r} is in {seen[key]!r} and in {split!r}"
                seen[key] = split

    def prunable(self) -> None:
        model = build_model(self.tiny, 0)
        names, parameters = self.tiny.prunable(model), dict(model.named_parameters())
        assert names, f"nothing is prunable under scope {self.tiny.scope!r}"
        assert len(set(names)) == len(names), "a prunable weight is named twice"
        for name in names:
            assert name in parameters, f"prunable() names {name!r}, which is no parameter of the model"
            assert parameters[name].requires_grad, f"{name!r} is frozen, yet prunable() names it"
        grouped = [id(p) for group in self.tiny.parameter_groups(model) for p in group["params"]]
        assert len(set(grouped)) == len(grouped), "parameter_groups() names a parameter twice"
        for name, parameter in parameters.items():
            if parameter.requires_grad:
                assert id(parameter) in grouped, f"parameter_groups() leaves out {name!r}, so it would never be trained"

    def model(self) -> None:
        one, same = (digest(named_tensors(build_model(self.tiny, 0))) for _ in range(2))
        assert one == same, "the same seed gives two models; draw from torch's global generator only"
        if not self.tiny.pretrained:
            assert one != digest(named_tensors(build_model(self.tiny, 1))), "another seed gives the same model"

    def order(self) -> None:
        def batch(seed: int, *indices: int) -> str:
            feed = TaskFeed(self.tiny, self.tiny.recipe, seed, torch.device("cpu"))
            return digest((f"{i}/{key}", value) for i, part in enumerate([feed(at) for at in indices][-1])
                          for key, value in sorted(part.items()))  # fmt: skip

        last = self.tiny.recipe.steps - 1
        straight = batch(0, *range(last + 1))
        _disturb()
        assert straight == batch(0, *range(last + 1)), "the same seed gives other batches the second time"
        assert straight == batch(0, last), "step by step and by one leap the same step sees other examples"
        assert straight != batch(1, last), "another seed sees the same batches; the examples may all be alike"

    def loss(self) -> None:
        model, task = build_model(self.tiny, 0, self.device).eval(), self.tiny
        examples = list(task.data("train")[: max(2, min(8, task.recipe.batch_size))])
        half = len(examples) // 2

        def of(some: list[Any]) -> tuple[float, int]:
            batch = to_device(task.collate(some), self.device)
            with torch.no_grad():
                value, count = task.loss(task.forward(model, batch), batch)
            assert value.ndim == 0, f"its loss has shape {tuple(value.shape)}, it must be a scalar"
            assert isinstance(count, int), f"its count is a {type(count).__name__}, it must be an int"
            assert count > 0, f"its count is {count}, it must be positive"
            assert math.isfinite(value.item()), f"its loss is {value.item()}"
            return value.item(), count

        (whole, count), parts = of(examples), (of(examples[:half]), of(examples[half:]))
        assert count == parts[0][1] + parts[1][1], (
            "the counts of two halves of a batch do not add up to that of the whole"
        )
        summed = parts[0][0] + parts[1][0]
        assert math.isclose(whole, summed, rel_tol=1e-3), (
            f"the losses of two halves of a batch add up to {summed:.6g}, that of the whole is {whole:.6g}: return the "
            "sum, not the mean"
        )

    def falls(self) -> None:
        losses = self.trained[1]
        third = max(1, len(losses) // 3)
        first, last = sum(losses[:third]) / third, sum(losses[-third:]) / third
        assert last < first, f"it went from {first:.4g} to {last:.4g} over {len(losses)} steps"

    def pure(self) -> None:
        model, task = self.trained[0], self.tiny
        for mode in (True, False):
            model.train(mode)
            before, draws = _surroundings(model), _draws()
            task.evaluate(model, "validation")
            task.evaluate(model, "test")
            for name, value in _surroundings(model).items():
                assert value == before[name], f"evaluate() changes {name}"
            for name, value in _draws().items():
                assert value == draws[name], f"evaluate() draws from {name}"

    def in_range(self) -> None:
        task, model = self.tiny, self.trained[0]
        splits: tuple[Literal["validation", "test"], ...] = ("validation", "test")
        for split in splits:
            found = task.evaluate(model, split)
            assert task.metric.name in found.scores, f"the scores of {split!r} have no {task.metric.name!r}, the metric"
            for name, score in found.scores.items():
                assert isinstance(score, int | float), f"the score {name!r} is {score!r}, it must be a number"
                assert math.isfinite(score), f"the score {name!r} is {score}"
            if task.metric.unit == "%":
                score = found.scores[task.metric.name]
                assert 0 <= score <= 100, f"{task.metric.name} is {score} %"
        missing = {example.id for example in task.data("test")} ^ found.predictions.keys()
        assert not missing, f"predictions and examples of the test split differ in {min(missing, key=str)!r}"
        try:
            files.canonical(found.predictions)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"its predictions are no JSON values: {error}") from None

    def any_batch_size(self) -> None:
        task, model = self.tiny, self.trained[0]
        one, other = (task.evaluate(model, "test", batch_size=size) for size in (3, 8))
        for key, prediction in one.predictions.items():
            again = other.predictions[key]
            assert _alike(prediction, again), f"{key!r} is {prediction!r} in batches of 3, {again!r} in batches of 8"
        for name, score in one.scores.items():
            assert _alike(score, other.scores[name]), (
                f"the score {name!r} is {score} in batches of 3, {other.scores[name]} in batches of 8"
            )

    def rescored(self) -> None:
        task = self.tiny
        found = task.evaluate(self.trained[0], "test")
        stored = json.loads(files.canonical(found.predictions))
        try:
            again, each = task.rescored(stored), task.outcomes(stored)
        except UsageError as error:
            raise Skipped(f"{error}, or nobody can verify its results") from None
        for name in found.scores.keys() | again.keys():
            one, other = found.scores.get(name), again.get(name)
            assert one == other, f"the score {name!r} is {one}, but {other} from its predictions"
        ids, score = files.digest(sorted(found.predictions)), found.scores[task.metric.name]
        assert each.examples == ids, "its outcomes are of other examples than its predictions"
        assert math.isclose(each.score(), score, rel_tol=1e-9, abs_tol=1e-9), (
            f"{task.metric.name} is {score}, but {each.score()} from its outcomes"
        )
        for wrong in ({}, {**stored, "no such example": next(iter(stored.values()))}):
            for method in (task.rescored, task.outcomes):
                try:
                    method(wrong)
                except InvalidInput:
                    continue
                raise AssertionError(f"{method.__name__}() takes predictions for other examples than those of the test")


def _surroundings(model: nn.Module) -> dict[str, Any]:
    tensors = {f"the tensor {name!r}": digest([("", tensor)]) for name, tensor in named_tensors(model)}
    modes = {f"the mode of module {name!r}": module.training for name, module in model.named_modules()}
    asked = {f"requires_grad of {name!r}": p.requires_grad for name, p in model.named_parameters()}
    gradients = {f"the gradient of {name!r}": p.grad is None for name, p in model.named_parameters()}
    return {**tensors, **modes, **asked, **gradients}


def _draws() -> dict[str, Any]:
    return {
        "torch's global generator": digest([("", torch.get_rng_state())]),
        "CUDA's global generators": repr([digest([("", state)]) for state in torch.cuda.get_rng_state_all()]),
        "numpy's global generator": repr(np.random.get_state()),
        "Python's global generator": random.getstate(),
    }


def _alike(one: Any, other: Any) -> bool:
    """Equal, but for the last digits of floating-point numbers."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    return bool(one == other)
