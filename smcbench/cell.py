"""A cell: one sparsifier on one task at one sparsity with one seed, from the dense model to the record."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from smcbench import files, plugins
from smcbench.account import Account, Conduct
from smcbench.cache import Cache
from smcbench.errors import Busy, MissedSparsity, NotFinite, SmcbenchError, SparsifierError, UsageError, describe
from smcbench.flops import Flops
from smcbench.journal import Journal
from smcbench.provenance import peak_memory, provenance, reset_peak_memory
from smcbench.recipe import Recipe
from smcbench.results import record as r
from smcbench.results.store import FailureClass, Store
from smcbench.seeds import be_deterministic
from smcbench.session import Session, build_model
from smcbench.sparsifier import Sparsifier
from smcbench.sparsity.distributions import count
from smcbench.state import State, write_tensors
from smcbench.task import Evaluation, Task, prunable_weights
from smcbench.trainer import ENGINE

T = TypeVar("T")


class Skipped(SmcbenchError):
    """The sparsifier does not apply here, for the reason it gives."""

    exit_code = 0


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what: nothing here changes what is measured, but for the numerics of ``device``."""

    device: str = "cpu"
    compile: str | None = None
    cache: Path | None = None
    """Folder of the shared cache; default: ``cache`` inside the store."""
    wait: bool = True
    """Wait for phases other processes are computing, rather than raise ``Busy``."""


def run(
    task: str | Task,
    sparsifier: str | Sparsifier,
    sparsity: float,
    seed: int = 0,
    *,
    budget: float = 1.0,
    out: str | Path | None = None,
    options: Options | None = None,
) -> r.RunRecord:
    """Run one cell, or go on with it, and return its record; a cell whose record exists is not run again.

    Args:
        task: a name, as ``smcbench list tasks`` shows it, or a task.
        sparsifier: a name with preset or parameters (``"rigl(stop=0.8)"``, ``"./mine.py:Mine"``), or an instance.
        sparsity: fraction of the prunable weights to remove, in [0, 1).
        seed: of initialisation, data order and the sparsifier's draws.
        budget: stretch of the recipe; 2.5 trains two and a half times as long.
        out: the store; default: a temporary folder, so that nothing is kept.
        options: device and the like.

    Raises:
        UsageError: an unknown name, a sparsity outside [0, 1).
        Skipped: the sparsifier does not apply to this task.
        SparsifierError: it missed its sparsity, produced NaN or wrapped the model.
    """
    task = plugins.load_task(task) if isinstance(task, str) else task
    named = plugins.load_sparsifier(sparsifier) if isinstance(sparsifier, str) else _unregistered(sparsifier)
    spec = spec_of(task, named, sparsity, seed, budget)
    if out is not None:
        return _run(task, named, spec, Store(out), options or Options())
    with tempfile.TemporaryDirectory() as folder:
        return _run(task, named, spec, Store(folder), options or Options())


def note_failure(
    task: str, sparsifier: str, sparsity: float, seed: int, budget: float, out: Path, kind: FailureClass, message: str
) -> None:
    """Note in the store why a cell has no record, on behalf of a process that is gone."""
    spec = spec_of(plugins.load_task(task), plugins.load_sparsifier(sparsifier), sparsity, seed, budget)
    Store(out).fail(spec, ENGINE, kind, message)


def spec_of(task: Task, named: plugins.Named, sparsity: float, seed: int, budget: float) -> r.RunSpec:
    """The identity of a cell."""
    place = r.TaskRef(task.name, task.version, task.digest(), task.scope, task.family)
    return r.RunSpec(place, reference(named), sparsity, seed, budget)


def reference(named: plugins.Named) -> r.SparsifierRef:
    """A sparsifier as a record names it."""
    return r.SparsifierRef(
        name=named.name.rsplit("/", 1)[-1],
        label=named.label,
        version=named.sparsifier.version,
        parameters=named.sparsifier.parameters(),
        digest=_digest(named),
    )


def _digest(named: plugins.Named) -> str | None:
    """What identifies a method beside name, version and parameters."""
    own, other = None if named.versioned else named.source, named.sparsifier.fingerprint()
    return own if other is None else files.digest([own, other])


def _unregistered(sparsifier: Sparsifier) -> plugins.Named:
    kind = type(sparsifier)
    for name, plugin in plugins.installed("sparsifiers").items():
        if plugin.target == f"{kind.__module__}:{kind.__qualname__}":
            return plugins.load_sparsifier(name + _written(sparsifier))
    source = _source(kind)
    return plugins.Named(sparsifier, f"{kind.__module__}:{kind.__qualname__}", repr(sparsifier), source, False)


def _written(sparsifier: Sparsifier) -> str:
    """Its fields, as the command line takes them: the arguments in its repr."""
    return "(" + repr(sparsifier).partition("(")[2] if dataclasses.is_dataclass(sparsifier) else ""


def _run(task: Task, named: plugins.Named, spec: r.RunSpec, store: Store, options: Options) -> r.RunRecord:
    if (done := store.record(spec, ENGINE)) is not None:
        return done
    folder = store.folder(spec, ENGINE)
    reason = named.sparsifier.skip(task, spec.sparsity)
    if reason is not None:
        raise Skipped(f"{named.label} skips {task.name} at sparsity {spec.sparsity:.3f}: {reason}")
    with files.locked(folder / "lock", f"{task.name} with {named.label}"):
        if (done := store.record(spec, ENGINE)) is not None:
            return done
        cache = Cache(options.cache or store.root / "cache")
        # The source too: what an edited method left unfinished is not to be gone on with.
        run = f"{spec.run_id(ENGINE)}-{named.source[:12]}"
        places = [folder] if len(task.parts) == 1 else [folder / f"part-{number}" for number in range(len(task.parts))]
        journals = [Journal(place, run, cache, wait=options.wait) for place in places]
        try:
            record = _measure(task, named, spec, store, journals, options)
            store.write(record)
        except Busy:
            raise
        except (Exception, SystemExit) as error:
            store.fail(spec, ENGINE, *classified(error, named.label))
            files.write(folder / "traceback.txt", traceback.format_exc())
            raise
        for journal in journals:
            journal.close()
        for leftover in ("traceback.txt", "lock"):
            (folder / leftover).unlink(missing_ok=True)
        return record


def classified(error: BaseException, label: str) -> tuple[FailureClass, str]:
    """The class of a failure, and one line for people."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "oom", f"{label} ran out of memory; use fewer workers or another device"
    if isinstance(error, MissedSparsity):
        return "missed-sparsity", str(error)
    if isinstance(error, NotFinite):
        return "nan", str(error)
    if isinstance(error, SmcbenchError):
        return "error", str(error)
    if isinstance(error, RuntimeError) and " does not have a deterministic implementation" in str(error):
        what = str(error).split(" does not have", 1)[0]
        return "error", f"{label}: on this device torch has no {what} that gives the same bits again; use another one"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return "error", f"{label} raised {describe(error)}{where}"


@dataclass(frozen=True)
class _Trained:
    """What one training left, off the device: of a task in parts there are several."""

    state: State
    digest: str
    evaluation: Evaluation
    counts: r.Denominators
    densities: dict[str, float]
    account: Account
    conduct: Conduct
    recipe: Recipe
    budget: int
    """Operations of one dense training of the task's network."""
    inference: float
    """Of an example."""
    inference_dense: float


def _measure(
    task: Task, named: plugins.Named, spec: r.RunSpec, store: Store, journals: Sequence[Journal], options: Options
) -> r.RunRecord:
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {options.device!r}: torch sees no CUDA device here; use --device cpu")
    be_deterministic()
    reset_peak_memory(device)
    runs = [_train(part, named, spec, journal, options) for part, journal in zip(task.parts, journals, strict=True)]
    evaluation = task.pooled([run.evaluation for run in runs])
    folder = store.folder(spec, ENGINE)
    masks = _named([run.state.mask.pack() for run in runs])
    shapes = _named([run.state.mask.shapes() for run in runs])
    write_tensors(folder / "weights.safetensors", _named([run.state.tensors for run in runs]), {"task": task.name})
    write_tensors(folder / "mask.safetensors", masks, {"shapes": shapes})
    conduct = _conduct([run.conduct for run in runs])
    steps = max(run.account.steps for run in runs)
    return r.RunRecord(
        schema=1,
        run=spec.run_id(ENGINE),
        spec=spec,
        metric=r.MetricInfo(**dataclasses.asdict(task.metric)),
        scores={name: float(score) for name, score in evaluation.scores.items()},
        sparsity=_report([run.counts for run in runs], spec.sparsity, _named([run.densities for run in runs])),
        cost=_cost(runs, peak_memory(device)),
        conduct=conduct,
        category=r.category_of(conduct, steps, runs[0].recipe.steps),
        digests=r.Digests(
            weights=runs[0].digest if len(runs) == 1 else files.digest([run.digest for run in runs]),
            mask=_mask_digest(masks),
            predictions=store.write_predictions(spec, ENGINE, evaluation.predictions),
        ),
        provenance=provenance(device, r.Source(task=_source(type(task.parts[0])), sparsifier=named.source)),
    )


def _train(task: Task, named: plugins.Named, spec: r.RunSpec, journal: Journal, options: Options) -> _Trained:
    """One training of the sparsifier, checked and scored."""
    network = named.sparsifier.network(task, spec.sparsity)
    narrowed = network is not task
    recipe = task.recipe.stretched(spec.budget)
    model = build_model(network, spec.seed, torch.device(options.device))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    stretched = network if spec.budget == 1 else dataclasses.replace(network, recipe=recipe)  # type: ignore[type-var]
    session = Session(stretched, model, recipe, spec.seed, journal=journal, compile=options.compile)
    if count(1 - spec.sparsity, session.mask.total) == 0:
        raise UsageError(
            f"sparsity {spec.sparsity!r} would leave none of the {session.mask.total:,} prunable weights of {task.name}"
        )
    named.sparsifier.sparsify(session, spec.sparsity)
    whole = prunable_weights(task) if narrowed else None
    weights = verified(session.model, shapes, network.prunable(model), session, spec.sparsity, named.label, whole)
    state = session.snapshot().cpu()
    digest = state.digest()
    # A part that was scored waits for the others: resumed, it need not be scored again.
    scored = journal.noted(digest)
    evaluation = task.evaluate(session.model, "test") if scored is None else Evaluation(**scored)
    if scored is None:
        journal.note(digest, dataclasses.asdict(evaluation))
    kept = {name: int(torch.count_nonzero(w)) for name, w in weights.items()}
    densities = {name: kept[name] / w.numel() for name, w in weights.items()}
    counts, dense = denominators(session.model, weights), session.flops
    inference = dense.inference(densities) / recipe.batch_size
    if narrowed:
        counts, densities, dense = _in_place_of(task, recipe, spec.seed, session.device, counts, kept)
        session.account.train_flops_dense = session.account.steps * round(dense.step())
    return _Trained(
        state,
        digest,
        evaluation,
        counts,
        densities,
        session.account,
        session.conduct,
        recipe,
        budget=recipe.steps * round(dense.step()),
        inference=inference,
        inference_dense=dense.inference() / recipe.batch_size,
    )


def _in_place_of(
    task: Task, recipe: Recipe, seed: int, device: torch.device, found: r.Denominators, kept: Mapping[str, int]
) -> tuple[r.Denominators, dict[str, float], Flops]:
    """A smaller network counted and billed as the task's with the rest of its weights zero."""
    stretched = task if recipe == task.recipe else dataclasses.replace(task, recipe=recipe)  # type: ignore[type-var]
    session = Session(stretched, build_model(task, seed, device), recipe, seed)
    counts = {
        name: r.Count(
            weights=sum(t.numel() for t in tensors),
            zeros=sum(t.numel() for t in tensors) - getattr(found, name).weights + getattr(found, name).zeros,
        )
        for name, tensors in counted(session.model, session.weights).items()
    }
    densities = {name: kept[name] / weight.numel() for name, weight in session.weights.items()}
    return r.Denominators(**counts), densities, session.flops


def _named(parts: Sequence[Mapping[str, T]]) -> dict[str, T]:
    """What the parts have by name; of several, under the number of the part."""
    if len(parts) == 1:
        return dict(parts[0])
    return {f"{number}.{name}": value for number, part in enumerate(parts) for name, value in part.items()}


def _cost(runs: Sequence[_Trained], memory: int | None) -> r.Cost:
    """The sum over all trainings; inference is the mean of an example over the models."""
    bills = [run.account.as_dict() for run in runs]
    sums: dict[str, Any] = {key: sum(bill[key] for bill in bills) for key in bills[0]}
    return r.Cost(
        **{**sums, "searched": sums["searched"] or None},
        budget_flops=sum(run.budget for run in runs),
        inference_flops=sum(run.inference for run in runs) / len(runs),
        inference_flops_dense=sum(run.inference_dense for run in runs) / len(runs),
        peak_memory=memory,
    )


def _conduct(found: Sequence[Conduct]) -> r.Conduct:
    """That of the only training, or of several the furthest that any went."""
    merged: dict[str, Any] = {}
    for key in found[0].as_dict():
        values = [value for each in found if (value := getattr(each, key)) is not None]
        merged[key] = (min if key == "first_prune" else max)(values, default=None)
    return r.Conduct(**merged)


def verified(
    model: nn.Module,
    shapes: Mapping[str, torch.Size],
    prunable: list[str],
    session: Session,
    sparsity: float,
    label: str,
    whole: int | None = None,
) -> dict[str, nn.Parameter]:
    """The prunable weights of the network a sparsifier left behind, once it is the network it should be.

    Counted are the zeros in the weights themselves, not those of a mask. A kept weight may happen to be zero; a weight
    too many may not be other than zero. Of a network that is smaller from the start, ``whole`` is how many weights the
    task's has; it may have fewer than there is room for.

    Raises:
        SparsifierError: parameters have other names or shapes than before.
        MissedSparsity: more weights are non-zero than may be, or fewer were kept than should be.
        NotFinite: a weight is NaN or infinite.
    """
    after = {name: p.shape for name, p in model.named_parameters()}
    if after != shapes:
        name = min((after.items() ^ shapes.items()), key=str)[0]
        raise SparsifierError(
            f"{label} left a wrapped or rebuilt model: parameter {name!r} is not as the task made it; keep the module "
            "and its parameter names, and prune through session.mask"
        )
    weights = {name: p for name, p in model.named_parameters() if name in set(prunable)}
    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise NotFinite(f"{label} left NaN or infinite values in {name!r}")
    total = sum(w.numel() for w in weights.values()) if whole is None else whole
    wanted = count(1 - sparsity, total)
    nonzero = sum(int(torch.count_nonzero(w)) for w in weights.values())
    if nonzero > wanted or (whole is None and session.mask.kept != wanted):
        raise MissedSparsity(
            f"{label} left {nonzero:,} of {total:,} prunable weights other than zero and a mask that keeps "
            f"{session.mask.kept:,}, at sparsity {sparsity:.6g} it must be {wanted:,}; prune with "
            "session.prune(scores, density=1 - sparsity), after the last change by hand"
        )
    return weights


def _report(counts: Sequence[r.Denominators], target: float, densities: dict[str, float]) -> r.SparsityReport:
    def summed(name: str) -> r.Count:
        found = [getattr(each, name) for each in counts]
        return r.Count(sum(each.weights for each in found), sum(each.zeros for each in found))

    scope = summed("scope")
    return r.SparsityReport(
        target=target,
        measured=scope.zeros / scope.weights,
        kept=scope.weights - scope.zeros,
        total=scope.weights,
        denominators=r.Denominators(**{f.name: summed(f.name) for f in dataclasses.fields(r.Denominators)}),
        layers=densities,
        parts=len(counts) if len(counts) > 1 else None,
    )


def denominators(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> r.Denominators:
    """The zeros of a model counted in four ways; ``weights`` are those in the task's scope."""
    return r.Denominators(
        **{
            name: r.Count(
                weights=sum(t.numel() for t in tensors),
                zeros=sum(t.numel() - int(torch.count_nonzero(t)) for t in tensors),
            )
            for name, tensors in counted(model, weights).items()
        }
    )


def counted(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> dict[str, list[Tensor]]:
    """The parameters behind each denominator, tied ones once; ``weights`` are those in the task's scope."""
    layers = (nn.Linear, nn.modules.conv._ConvNd)
    return {
        "scope": list(weights.values()),
        "linear": list({id(m.weight): m.weight for m in model.modules() if isinstance(m, layers)}.values()),
        "trainable": [p for p in model.parameters() if p.requires_grad],
        "stored": list(model.parameters()),
    }


def _mask_digest(packed: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name, bits in sorted(packed.items()):
        total.update(name.encode() + b"\0" + bits.cpu().numpy().tobytes())
    return total.hexdigest()


def _source(kind: type[Any]) -> str:
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        raise UsageError(f"the source of {kind.__name__} cannot be found; define it in a file") from None
