"""The local engine: a plain pool of processes, one thread each."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from smcbench.cell import Options


@dataclass(frozen=True)
class Request:
    """A cell to run, by names, so that it travels to any process."""

    task: str
    sparsifier: str
    sparsity: float
    seed: int
    budget: float
    out: Path
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell; ``score`` if it is done, else ``message`` says why not."""

    request: Request
    state: Literal["done", "skipped", "failed", "busy"]
    message: str = ""
    score: float | None = None
    seconds: float = 0.0


def work(request: Request) -> Outcome:
    """Run one cell; whatever happens to it becomes its outcome."""
    from smcbench import cell, plugins
    from smcbench.errors import Busy, SmcbenchError

    begin = time.monotonic()
    try:
        record = cell.run(
            request.task, request.sparsifier, request.sparsity, request.seed,
            budget=request.budget, out=request.out, options=request.options,
        )  # fmt: skip
        return Outcome(request, "done", score=record.score, seconds=time.monotonic() - begin)
    except cell.Skipped as reason:
        return Outcome(request, "skipped", str(reason))
    except Busy as reason:
        return Outcome(request, "busy", str(reason))
    except (Exception, SystemExit) as error:
        label = request.sparsifier if isinstance(error, SmcbenchError) else plugins.short(request.sparsifier)
        return Outcome(request, "failed", cell.classified(error, label)[1], seconds=time.monotonic() - begin)


def run(requests: Sequence[Request], workers: int = 1) -> Iterator[Outcome]:
    """Run cells on ``workers`` processes and yield each outcome as it comes, in no particular order.

    A cell that needs a phase another worker is computing is put back and another one taken. A worker that dies takes
    its cell with it, and no other: cells that were in flight are tried once more, one at a time.
    """
    if workers <= 1:
        _one_thread()
        yield from map(work, (replace(r, options=replace(r.options, wait=True)) for r in requests))
        return
    queue = deque(replace(r, options=replace(r.options, wait=False)) for r in requests)
    suspects: deque[Request] = deque()
    while queue or suspects:
        alone = bool(suspects)
        with _Pool(1 if alone else workers) as pool:
            lost = yield from _drain(suspects if alone else queue, pool, 1 if alone else workers)
        if alone and lost:
            yield _died(lost[0])
        else:
            suspects.extend(lost)


def _died(request: Request) -> Outcome:
    """The outcome of a cell that took its worker with it, on its own too."""
    from smcbench import cell

    why = "its worker died, perhaps for want of memory; use fewer --workers, then say the command again"
    message = f"{request.task} with {request.sparsifier}: {why}"
    cell.note_failure(
        request.task, request.sparsifier, request.sparsity, request.seed, request.budget, request.out, "oom", message
    )
    return Outcome(request, "failed", message)


def _drain(queue: deque[Request], pool: _Pool, workers: int) -> Generator[Outcome, None, list[Request]]:
    """Work off the queue; returns the cells in flight when a worker died."""
    running: dict[Future[Outcome], Request] = {}
    while queue or running:
        while queue and len(running) < workers:
            request = queue.popleft()
            try:
                running[pool.submit(work, request)] = request
            except BrokenProcessPool:
                return [request, *running.values()]
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        waiting = 0
        for future in finished:
            try:
                outcome = future.result()
            except BrokenProcessPool:
                return list(running.values())
            request = running.pop(future)
            if outcome.state == "busy":
                queue.append(request)
                waiting += 1
            else:
                yield outcome
        if waiting:
            time.sleep(0.2)  # nothing else to take yet, or little: do not spin
    return []


class _Pool(ProcessPoolExecutor):
    """A pool whose workers stop with their parent, and at once when it is interrupted."""

    def __init__(self, workers: int) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["smcbench.cell"])
        super().__init__(workers, mp_context=context, initializer=_begin)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            for process in list((self._processes or {}).values()):
                process.kill()
        self.shutdown(wait=kind is None, cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _one_thread()
    threading.Thread(target=_stop_with, args=(os.getppid(),), daemon=True).start()


def _stop_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
