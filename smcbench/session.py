"""The session: one model being trained on one task under one mask. It is what a sparsifier drives."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smcbench.account import Account, Conduct
from smcbench.errors import UsageError
from smcbench.feed import Feed, OwnFeed, TaskFeed
from smcbench.flops import Flops, mean, measure
from smcbench.journal import Journal
from smcbench.own import OwnTask
from smcbench.phase import Phase
from smcbench.recipe import Recipe
from smcbench.seeds import generator, seed_everything
from smcbench.sparsity.keep import keep
from smcbench.sparsity.mask import Mask
from smcbench.sparsity.reparam import Effective, Reparam
from smcbench.state import State
from smcbench.task import Batch, Outputs, Task
from smcbench.trainer import Loop, Step, apply_mask, build_optimizer

Loss = Callable[[Outputs, Batch, int], tuple[Tensor, int]]
"""A phase's own loss: ``(outputs, batch, step index)`` to the sum and the count to divide it by."""

_FLOPS_BATCHES = 4
"""Training batches over which the operations of a step are averaged."""

_MEASURED: dict[tuple[str, int], Flops] = {}
"""Operations of a step by task."""


class Session:
    """One model being trained on one task under one mask.

    Three rules make phases compose. R1: a phase that continues where the last one stopped, with the same recipe and the
    same parameters to train, keeps its optimizer; any other starts a fresh one. R2: the learning rate and all
    randomness of a step follow from (recipe, seed, step index). R3: ``validation`` is for the method, ``test`` for the
    engine.

    The session is the only memory of a method: what must survive a restart stands in the weights, the mask or
    ``memory``; a run that was killed replays its sparsifier, and finished phases are restored instead of repeated.

    Attributes:
        weights: the prunable parameters by name, and only those; chosen by the task.
        position: where on the recipe's schedule training stands, in optimizer steps.
        memory: tensors, masks and numbers that must survive a restart.
        generator: the only randomness a sparsifier may use.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        recipe: Recipe,
        seed: int = 0,
        *,
        feed: Feed | None = None,
        journal: Journal | None = None,
        compile: str | None = None,
        branch: str = "",
    ) -> None:
        self.task, self.model, self.recipe, self.seed = task, model, recipe, seed
        self.device = next(model.parameters()).device
        parameters = dict(model.named_parameters())
        self.weights: dict[str, nn.Parameter] = {name: parameters[name] for name in task.prunable(model)}
        if not self.weights:
            raise UsageError(f"task {task.name}: nothing is prunable under scope {task.scope!r}")
        self.position = 0
        self.memory: dict[str, Tensor | Mask | float | int | str] = {}
        self.generator = generator(seed, "sparsifier", branch)
        self.account, self.conduct = Account(), Conduct()
        self._mask = Mask.of_nonzeros(self.weights) if task.starts_sparse else Mask.dense(self.weights)
        self._extra: dict[str, dict[str, nn.Parameter]] = {}
        self._extra_lr: dict[str, float | None] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        self._setting: Any = None
        self._feed = feed
        self._feeds: dict[Recipe, Feed] = {}
        self._journal = journal
        self._compile = compile
        self._callable: Any = torch.compile(model, backend=compile) if compile else model
        self._branch, self._forks = branch, 0
        self._parent: Session | None = None
        self._flops: Flops | None = None
        self._batch_size = recipe.batch_size
        self._rate: tuple[Mask | None, Mask | None, int, int] | None = None
        self._explored: Mask | None = None
        self._seen: Mask | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        loss: Callable[[nn.Module, Any], Tensor],
        batches: Sequence[Any] | Callable[[int], Any],
        recipe: Recipe,
        prunable: Callable[[str, nn.Parameter], bool] | Sequence[str] | None = None,
        evaluate: Callable[[nn.Module], float] | None = None,
        seed: int = 0,
    ) -> Session:
        """A session on a user's own network, trained in place, outside any benchmark.

        Args:
            model: any module, on the device where it is to be trained.
            loss: ``loss(model, batch)``, the mean loss of a batch as a scalar.
            batches: a list of batches, taken in turn, or a function of the step index.
            recipe: how to train; its ``batch_size`` is not used, the batches are as they come.
            prunable: names, or a predicate on ``(name, parameter)``; by default all matrices and kernels.
            evaluate: a validation score, for methods that look at one.

        >>> import torch; from torch import nn; from smcbench import Recipe
        >>> net, x, y = nn.Linear(8, 2), torch.randn(16, 8), torch.randint(2, (16,))
        >>> s = Session.of(net, loss=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), batches=[(x, y)],
        ...                recipe=Recipe(steps=3, batch_size=16, lr=0.1))
        >>> s.prune({n: w.abs() for n, w in s.weights.items()}, density=0.25); s.train(); int((net.weight != 0).sum())
        4
        """
        task = OwnTask(loss, prunable, evaluate, recipe)
        return cls(task, model, recipe, seed, feed=OwnFeed(batches, next(model.parameters()).device))

    # -- the mask ------------------------------------------------------------------------------------------------

    @property
    def mask(self) -> Mask:
        """The weights that are kept; assigning prunes and regrows, and the engine keeps the rest at zero.

        Weights that come back start at zero; optimizer moments are cleared wherever the old and the new mask do not
        both keep the weight.
        """
        return self._mask

    @mask.setter
    def mask(self, new: Mask) -> None:
        if not isinstance(new, Mask):
            raise UsageError(f"session.mask must be a Mask, not {type(new).__name__}")
        for name in self.weights.keys() ^ new.keys():
            raise UsageError(f"the mask and the prunable weights differ in tensor {name!r}")
        new = new.to(self.device)
        if dist.is_initialized():
            new = _from_rank_zero(new)
        old = self._mask
        if new == old:
            return
        common = old & new
        self.conduct.mask_updates += 1
        self.conduct.regrown += new.kept - common.kept
        self.conduct.last_prune = self.account.steps
        if self.conduct.first_prune is None:
            self.conduct.first_prune = self.account.steps
        self._mask = new
        self._apply_mask()
        if self._optimizer is not None:
            for name, weight in self.weights.items():
                for moment in self._optimizer.state.get(weight, {}).values():
                    if isinstance(moment, Tensor) and moment.shape == weight.shape:
                        apply_mask([moment], [common[name]])

    def prune(self, scores: Mapping[str, Tensor], density: float | Mapping[str, float]) -> None:
        """Keep exactly ``round(density * n)`` weights, those with the highest scores.

        Args:
            scores: one tensor a prunable weight, of its shape; higher is kept.
            density: of all weights together (a global threshold), or by name (one threshold a layer).
        """
        self.mask = keep(scores, density)

    # -- training ------------------------------------------------------------------------------------------------

    def train(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        trainable: Sequence[str] | None = None,
        recipe: Recipe | None = None,
        loss: Loss | None = None,
    ) -> None:
        """Train from step ``start`` of the recipe's schedule to ``stop`` (default: its end).

        A pure function of the state it starts from, hence memoised: the same phase is never computed twice, by
        whichever method or process, but always billed. The state is weights, buffers, mask, optimizer and what
        requires gradients; a module's other attributes (a dropout rate) are the task's and not to be changed.
        """
        for _ in self._phase("train", start, stop, trainable, recipe, loss, None):
            pass

    def steps(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        trainable: Sequence[str] | None = None,
        recipe: Recipe | None = None,
        loss: Loss | None = None,
        reparam: Reparam | None = None,
    ) -> Iterator[Step]:
        """The same stretch of training, one :class:`Step` at a time: after backward, before the update.

        There dense gradients (``step.gradients()``) and masked weights are both visible, and the mask may be changed.
        After a restart the loop goes on from the last snapshot, so its body may keep nothing in local variables.

        Args:
            start, stop: bounds on the recipe's schedule.
            trainable: names of the parameters to train; the others stand still. Default: all that require gradients.
            recipe: one derived from the session's.
            loss: instead of the task's, such as a distillation loss; what it computes besides is not billed.
            reparam: train dense weights but run the network on a function of them.
        """
        return self._phase("steps", start, stop, trainable, recipe, loss, reparam)

    def _phase(
        self,
        kind: str,
        start: int,
        stop: int | None,
        trainable: Sequence[str] | None,
        recipe: Recipe | None,
        loss: Loss | None,
        reparam: Reparam | None,
    ) -> Iterator[Step]:
        recipe = recipe or self.recipe
        stop = recipe.steps if stop is None else stop
        if not 0 <= start <= stop <= recipe.steps:
            raise UsageError(f"a phase from step {start} to {stop} does not fit a recipe of {recipe.steps} steps")
        if start == stop:
            if start != self.position:
                self.position, self._optimizer = start, None
            return
        setting = (recipe, trainable if trainable is None else tuple(trainable), tuple(self._extra))
        carried = self._optimizer is not None and start == self.position and setting == self._setting
        self._setting, self._batch_size = setting, recipe.batch_size
        self._apply_mask()
        if not carried:
            self._optimizer = self._fresh_optimizer(recipe, trainable)
        shared = kind == "train" and loss is None and reparam is None
        number, self.conduct.phases = self.conduct.phases, self.conduct.phases + 1
        run = Phase(self, kind, number, start, stop, recipe, trainable, carried, shared)
        with contextlib.ExitStack() as stack:
            begin = run.recall(stack)
            self.model.train()
            if begin < stop:
                loop = self._loop(recipe, loss, reparam, run.updated)
                try:
                    yield from loop.run(begin, stop)
                except GeneratorExit:  # the method has seen enough: this step's gradient was computed, nothing more
                    self._charge_gradients(1)
                    raise
                finally:
                    if self._optimizer is not None:
                        self._optimizer.zero_grad(set_to_none=True)
                run.finish()

    def _loop(
        self, recipe: Recipe, loss: Loss | None, reparam: Reparam | None, updated: Callable[[Step, Any], None]
    ) -> Loop:
        assert self._optimizer is not None

        def loss_of(batch: Any, index: int) -> tuple[Tensor, int]:
            outputs = self.task.forward(self._callable, batch)
            return self.task.loss(outputs, batch) if loss is None else loss(outputs, batch, index)

        return Loop(
            weights=self.weights,
            extra=[p for group in self._extra.values() for p in group.values()],
            mask=lambda: self._mask,
            optimizer=self._optimizer,
            scaler=self._scaler,
            feed=self._feed_for(recipe),
            loss=loss_of,
            recipe=recipe,
            seed=self.seed,
            reparam=reparam,
            updated=updated,
        )

    def _feed_for(self, recipe: Recipe) -> Feed:
        if self._feed is not None:
            return self._feed
        if recipe not in self._feeds:
            self._feeds[recipe] = TaskFeed(self.task, recipe, self.seed, self.device)
        return self._feeds[recipe]

    def _fresh_optimizer(self, recipe: Recipe, trainable: Sequence[str] | None) -> torch.optim.Optimizer:
        groups = self.task.parameter_groups(self.model)
        if trainable is not None:
            parameters = dict(self.model.named_parameters())
            for name in trainable:
                if name not in parameters:
                    raise UsageError(f"trainable: the model has no parameter {name!r}")
            chosen = {id(parameters[name]) for name in trainable}
            groups = [{**group, "params": [p for p in group["params"] if id(p) in chosen]} for group in groups]
        for name, tensors in self._extra.items():
            rate = self._extra_lr[name]
            groups.append({"params": list(tensors.values()), **({} if rate is None else {"lr": rate})})
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        return build_optimizer(groups, recipe)

    def reset_optimizer(self) -> None:
        """Forget all moments; the next phase starts with a fresh optimizer wherever it starts."""
        self._optimizer = None

    # -- looking -------------------------------------------------------------------------------------------------

    def gradients(self, batches: int = 1, *, first: int = 0) -> dict[str, Tensor]:
        """Dense gradients of the mean training loss over ``batches`` batches, from that of step ``first`` on; billed.

        In training mode; buffers (batch-norm statistics) are left as they were. A weight without a gradient has zeros.
        """
        begin, extra = time.perf_counter(), [p for group in self._extra.values() for p in group.values()]
        parameters = [*self.model.parameters(), *extra]
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        under_way = [p.grad for p in parameters], self._optimizer, self._scaler, self._batch_size
        self._batch_size = self.recipe.batch_size
        total = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        try:
            self._optimizer = self._fresh_optimizer(self.recipe.replace(precision="fp32"), None)
            self.model.train()
            loop = self._loop(self.recipe, None, None, lambda step, made: None)
            for index in range(first, first + batches):
                self._optimizer.zero_grad(set_to_none=True)
                loop.backward(index)
                for name, weight in self.weights.items():
                    if weight.grad is not None:
                        total[name] += weight.grad / batches
        finally:
            self._charge_gradients(batches)
            gradients, self._optimizer, self._scaler, self._batch_size = under_way
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
        self.account.seconds += time.perf_counter() - begin
        return total

    def losses(self, batches: int = 1, *, passes: int = 1) -> Iterator[Tensor]:
        """The training loss of each micro-batch of the first ``batches`` batches, with its graph, all on one scale.

        For criteria that need more than a gradient. In training mode and full precision, with the random numbers those
        steps draw, so that two passes see the same network; buffers are left as they were.

        Args:
            batches: how many, from the start of the run.
            passes: what is done with each, in gradient evaluations: a Hessian-vector product costs two more.

        Raises:
            UsageError: the session runs in several processes, which would each see a share of the batch.
        """
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise UsageError("a criterion that differentiates twice runs in one process only")
        begin, feed, under_way = time.perf_counter(), self._feed_for(self.recipe), self._batch_size
        self._batch_size = self.recipe.batch_size
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        self.model.train()
        try:
            for index in range(batches):
                micro = feed(index)
                for part, batch in enumerate(micro):
                    seed_everything(self.device, self.seed, "step", index, part, 0)
                    loss, count = self.task.loss(self.task.forward(self.model, batch), batch)
                    yield loss / (max(count, 1) if len(micro) == 1 else self.recipe.batch_size)
        finally:
            self._charge_gradients(batches * passes)
            self._batch_size = under_way
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
            self.account.seconds += time.perf_counter() - begin

    def outputs(self, batch: Batch) -> Outputs:
        """What the model says to a micro-batch, in evaluation mode; billed. A teacher is a fork that is asked."""
        was_training, cost, share = self.model.training, self.flops, 1 / self.recipe.accumulate
        self.model.eval()
        self.account.train_flops += round(share * cost.inference(self._mask.layer_densities()))
        self.account.train_flops_dense += round(share * cost.inference())
        with torch.no_grad():
            found = self.task.forward(self.model, batch)
        self.model.train(was_training)
        return found

    def evaluate(self, split: str = "validation") -> dict[str, float]:
        """Scores on the validation split; the test split is the engine's."""
        if split != "validation":
            raise UsageError(f"a sparsifier may look at 'validation' only, not at {split!r}")
        return self.task.evaluate(self.model, "validation").scores

    # -- states --------------------------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """A copy of weights, buffers and mask."""
        return State.of(self.model, self._mask)

    def restore(self, state: State) -> None:
        """Go back to a state: weights, buffers and mask."""
        state.load_into(self.model)
        self.mask = state.mask

    def rewind(self, state: State) -> None:
        """Go back to the weights and buffers of a state; the mask stays (Frankle et al., 2020)."""
        state.load_into(self.model)
        self._apply_mask()

    def initial(self, seed: int) -> State:
        """The task's model as another seed initialises it, dense; what is frozen stays what it is.

        Raises:
            UsageError: the task starts from pretrained weights.
        """
        if self.task.pretrained:
            raise UsageError(f"task {self.task.name} starts from pretrained weights, there is no other initialisation")
        model = build_model(self.task, seed, self.device)
        frozen = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}
        with torch.no_grad():
            for name, parameter in frozen.items():
                model.get_parameter(name).copy_(parameter)
        return State.of(model, Mask.dense(self.weights))

    def fork(self, seed: int | None = None, name: str = "", *, apart: bool = False) -> Session:
        """An independent copy with its own memory and journal branch, billed to the same account.

        Args:
            seed: of the copy's data order and noise; default: the same.
            name: of the branch, unique within this session; default: a number.
            apart: as if the copy ran alone: with a bill and a conduct of its own, and with the session's generator.
                It is how a control sees what the method it controls would do.
        """
        branch = f"{self._branch}/{name or self._forks}"
        self._forks += 1
        model = copy.deepcopy(self.model)
        other = type(self)(
            self.task, model, self.recipe, self.seed if seed is None else seed,
            feed=self._feed, journal=self._journal, compile=self._compile, branch=branch,
        )  # fmt: skip
        other.position, other._flops, other._mask = self.position, self._flops, self._mask
        if apart:
            other.generator = self.generator
        else:
            other.account, other._parent = self.account, self
        for group, tensors in self._extra.items():
            other.parameters(group, tensors, self._extra_lr[group])
        if self._optimizer is not None and self._setting is not None:
            other._setting = self._setting
            other._optimizer = other._fresh_optimizer(self._setting[0], self._setting[1])
            other._optimizer.load_state_dict(copy.deepcopy(self._optimizer.state_dict()))  # it would share moments
            other._scaler.load_state_dict(self._scaler.state_dict())
        return other

    def parameters(self, name: str, tensors: Mapping[str, Tensor], lr: float | None = None) -> dict[str, nn.Parameter]:
        """Extra learnable tensors (scores, thresholds), trained with the model from the next phase on.

        Args:
            name: of the group; asking again for a group that exists returns it as it is.
            tensors: initial values.
            lr: peak learning rate of the group; default: the recipe's.
        """
        if name not in self._extra:
            self._extra[name] = {key: nn.Parameter(t.detach().clone()) for key, t in tensors.items()}
            self._extra_lr[name] = lr
        return dict(self._extra[name])

    def recalibrate(self, batches: int = 16) -> None:
        """Recompute batch-norm statistics as plain means over training batches; nothing to do without them; billed."""
        norms = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        norms = [m for m in norms if m.track_running_stats]
        if not norms:
            return
        momenta = [m.momentum for m in norms]
        for module in norms:
            module.reset_running_stats()
            module.momentum = None
        self.model.train()
        feed = self._feed_for(self.recipe)
        with torch.no_grad():
            for index in range(batches):
                seed_everything(self.device, self.seed, "recalibrate", index)
                for batch in feed(index):
                    self.task.forward(self.model, batch)
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        cost = self.flops
        self.account.train_flops += batches * round(cost.inference(self._mask.layer_densities()))
        self.account.train_flops_dense += batches * round(cost.inference())

    # -- the bill ------------------------------------------------------------------------------------------------

    @property
    def flops(self) -> Flops:
        """Operations of one optimizer step, traced once a task, budget and process, over a few training batches."""
        if self._flops is None and isinstance(self.task, OwnTask):
            self._flops = self._measure_flops()
        elif self._flops is None:
            key = self.task.digest(), self.recipe.steps
            if key not in _MEASURED:
                _MEASURED[key] = self._measure_flops()
            self._flops = _MEASURED[key]
        return self._flops

    def _measure_flops(self) -> Flops:
        kept = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        # The same batches for every seed: where lengths vary, so would the bill of equal runs.
        feed = self._feed or TaskFeed(self.task, self.recipe, 0, self.device)
        mode = self.model.training
        self.model.train()

        def once(index: int) -> Flops:
            batches = feed(index)

            def loss() -> Tensor:
                parts = [self.task.loss(self.task.forward(self.model, batch), batch)[0] for batch in batches]
                return torch.stack(parts).sum()

            return measure(loss, self.weights, [p for p in self.model.parameters() if p.requires_grad])

        spread = {round(i * (self.recipe.steps - 1) / max(1, _FLOPS_BATCHES - 1)) for i in range(_FLOPS_BATCHES)}
        with torch.random.fork_rng(devices=[]):
            measured = mean([once(index) for index in sorted(spread)])
        self.model.train(mode)
        for name, buffer in self.model.named_buffers():
            buffer.copy_(kept[name])
        return measured

    def _charge(self, steps: int, mask: Mask, made: Effective | None = None, *, dense_gradients: bool = False) -> None:
        """Bill optimizer steps whose gradients were computed under ``mask``, or on effective weights."""
        forward = mask if made is None else made.forward
        backward = None if dense_gradients else (forward if made is None or made.backward is None else made.backward)
        self.account.steps += steps
        self._charge_flops(steps, forward, backward)
        self._saw(1.0 if forward is None else forward.density)
        if self._seen is not mask:
            self._seen = mask
            if self._explored is None or not self._explored.is_dense:
                self._explored = mask if self._explored is None else self._explored | mask
                self.conduct.explored = self._explored.density

    def _charge_gradients(self, batches: int) -> None:
        self.account.gradient_evaluations += batches
        self._charge_flops(batches, self._mask, None)

    def _saw(self, density: float) -> None:
        """A search in a fork is a search: what is trained there counts for the whole run."""
        session: Session | None = self
        while session is not None:
            session.conduct.peak_density = max(session.conduct.peak_density, density)
            session = session._parent

    def _charge_flops(self, times: int, forward: Mask | None, backward: Mask | None) -> None:
        """Bill training steps that ran under these masks (None: dense)."""
        if self._rate is None or self._rate[0] is not forward or self._rate[1] is not backward:
            densities = [None if m is None or m.is_dense else m.layer_densities() for m in (forward, backward)]
            self._rate = (forward, backward, round(self.flops.step(*densities)), round(self.flops.step()))
        batch = self._batch_size / self.recipe.batch_size  # of a phase that has a recipe of its own
        self.account.train_flops += times * round(batch * self._rate[2])
        self.account.train_flops_dense += times * round(batch * self._rate[3])

    def _apply_mask(self) -> None:
        if not self._mask.is_dense:
            apply_mask([w.data for w in self.weights.values()], [self._mask[name] for name in self.weights])


def build_model(task: Task, seed: int, device: torch.device | str = "cpu") -> nn.Module:
    """The task's dense model, its random parts drawn from the stream ``init`` of ``seed``."""
    seed_everything(torch.device("cpu"), seed, "init")
    return task.build_model().to(device)


def _from_rank_zero(mask: Mask) -> Mask:
    tensors = {name: bits.to(torch.uint8) for name, bits in mask.items()}
    for bits in tensors.values():
        dist.broadcast(bits, 0)
    return Mask({name: bits.bool() for name, bits in tensors.items()})
