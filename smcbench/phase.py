"""A phase of training under way: its key, what the store knows of it, its bill, its snapshots."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from smcbench import files
from smcbench.cache import Cache
from smcbench.errors import Busy, NotFinite, SparsifierError
from smcbench.journal import Journal
from smcbench.recipe import Recipe
from smcbench.snapshot import load, memory_tensors, meta_of, optimizer_tensors, scalars, tensors_of
from smcbench.sparsity.reparam import Effective
from smcbench.state import digest, named_tensors
from smcbench.trainer import ENGINE, Step, check_finite

if TYPE_CHECKING:
    from smcbench.session import Session


class Phase:
    """A phase under way: its key, what the store knows of it, its bill, its snapshots."""

    def __init__(
        self,
        session: Session,
        kind: str,
        number: int,
        start: int,
        stop: int,
        recipe: Recipe,
        trainable: Sequence[str] | None,
        carried: bool,
        shared: bool,
    ) -> None:
        self.session, self.journal, self.shared = session, session._journal, shared
        self.start, self.stop = start, stop
        self.entry: dict[str, Any] = {"phase": number, "branch": session._branch, "kind": kind,
                                      "start": start, "stop": stop}  # fmt: skip
        self.clock = time.perf_counter()
        self.spent, self.booked = 0.0, session.account.seconds
        self.key = "" if self.journal is None else self._key(recipe, trainable, carried)

    def _key(self, recipe: Recipe, trainable: Sequence[str] | None, carried: bool) -> str:
        assert self.journal is not None
        session = self.session
        content = [*named_tensors(session.model), *(("mask/" + n, m) for n, m in session.mask.items())]
        content += [(f"extra/{g}/{n}", p) for g, group in session._extra.items() for n, p in group.items()]
        if carried:
            content += sorted(optimizer_tensors(session._optimizer).items())
        identity: dict[str, Any] = {
            "engine": ENGINE, "task": session.task.digest(), "seed": session.seed, "start": self.start,
            "stop": self.stop, "trainable": None if trainable is None else sorted(trainable), "carried": carried,
            "recipe": recipe.as_dict(), "torch": str(torch.__version__), "device": session.device.type,
            "threads": torch.get_num_threads(), "compile": session._compile, "content": digest(content),
        }  # fmt: skip
        if frozen := [name for name, p in session.model.named_parameters() if not p.requires_grad]:
            identity["frozen"] = frozen
        if not self.shared:
            identity["own"] = ["explored", self.journal.run, self.entry, repr(scalars(session)),
                               digest(sorted(memory_tensors(session).items()))]  # fmt: skip
        return files.digest(identity)[:32]

    def recall(self, stack: contextlib.ExitStack) -> int:
        """Restore what is known of this phase and return the step to go on from; ``stop`` if it is finished."""
        try:
            return self.start if self.journal is None else self._recall(self.journal, stack)
        finally:
            self.clock = time.perf_counter()  # waiting is not training

    def _recall(self, journal: Journal, stack: contextlib.ExitStack) -> int:
        store = journal.store(self.shared)
        if self._restore(journal, store):
            return self.stop
        while True:
            try:
                stack.enter_context(store.lease(self.key))
                break
            except Busy:
                if not journal.wait:
                    raise
                time.sleep(0.2)
        if self._restore(journal, store):  # finished by another process between the look and the lease
            return self.stop
        found = journal.in_flight(self.key)
        if found is None:
            return self.start
        load(self.session, *found, whole=True)
        self.spent, self.booked = found[1]["spent"], self.session.account.seconds
        return self.session.position

    def _restore(self, journal: Journal, store: Cache) -> bool:
        found = store.load(self.key)
        if found is None:
            return False
        session, (tensors, meta) = self.session, found
        load(session, tensors, meta, whole=not self.shared)
        if self.shared:
            session._charge(self.stop - self.start, session.mask)
            if meta["run"] == journal.run:
                session.account.seconds += meta["spent"]
            else:
                session.account.seconds_cached += meta["spent"]
        journal.finished(self.key, {**self.entry, "key": self.key, "seconds": meta["spent"], "stored": True})
        return True

    def updated(self, step: Step, made: Effective | None) -> None:
        """Bill a step that has been taken; write a snapshot when one is due."""
        session = self.session
        session.position = step.index + 1
        session._charge(1, step.mask, made, dense_gradients=step.dense_gradients_used)
        if step.overflows:
            session._charge_gradients(step.overflows)
        if session.device.type == "cpu" or step.index % 64 == 0 or session.position == self.stop:
            check_finite(step.loss, step.index)
        if self.journal is not None and session.position < self.stop and self.journal.is_due():
            self._book()
            self.journal.snapshot(self.key, tensors_of(session), {**meta_of(session), "spent": self.spent})

    def finish(self) -> None:
        """Check what training left, and keep it.

        Raises:
            SparsifierError: a pruned weight is not zero.
            NotFinite: a weight is NaN or infinite.
        """
        session = self.session
        self._book()
        for name, weight in session.weights.items():
            if not session._mask.is_dense and bool((weight.detach() * ~session._mask[name]).any()):
                raise SparsifierError(f"pruned weights of {name!r} came back to life during training")
            if not bool(torch.isfinite(weight).all()):
                raise NotFinite(f"weight {name!r} is not finite after step {self.stop - 1}")
        if self.journal is not None:
            meta = {**meta_of(session), "spent": self.spent, "run": self.journal.run}
            self.journal.store(self.shared).save(self.key, tensors_of(session), meta)
            self.journal.finished(self.key, {**self.entry, "key": self.key, "seconds": self.spent, "stored": False})

    def _book(self) -> None:
        """Bill the time since the last booking, less what forks and extra gradients booked meanwhile."""
        account, now = self.session.account, time.perf_counter()
        own = max(0.0, now - self.clock - (account.seconds - self.booked))
        self.spent += own
        account.seconds += own
        self.clock, self.booked = now, account.seconds
