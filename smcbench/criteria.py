"""Criteria: scores for the prunable weights of a session; higher is kept."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from smcbench.errors import UsageError
from smcbench.feed import to_device
from smcbench.flops import measure
from smcbench.own import OwnTask
from smcbench.session import Session
from smcbench.sparsity.keep import Elementwise


def magnitude(session: Session) -> Elementwise:
    """``|w|``, computed where it is needed (Han et al., 2015, arXiv:1506.02626)."""
    return Elementwise(torch.abs, session.weights)


def random_scores(session: Session) -> dict[str, Tensor]:
    """Uniform in [0, 1), from the session's generator: the same on every device."""
    return {
        name: torch.rand(weight.shape, generator=session.generator).to(weight.device)
        for name, weight in session.weights.items()
    }


def connection_sensitivity(session: Session, batches: int = 1, first: int = 0) -> Elementwise:
    """``|g * w|`` with the gradient of the mean loss over some batches (SNIP, Lee et al., 2019, eq. 4-6).

    It equals the magnitude of the gradient with respect to a mask of ones; the paper's normalisation by the sum does
    not change the order. ``first`` is the step of the run whose batch is the first.
    """
    gradients: Mapping[str, Tensor] = session.gradients(batches, first=first)
    return Elementwise(lambda g, w: (g * w).abs(), gradients, session.weights)


# -- gradient flow (GraSP)


def gradient_flow(session: Session, batches: int = 1, temperature: float = 200.0) -> Elementwise:
    """``w * Hg``: how much of the squared norm of the gradient g a weight keeps up (GraSP, Wang et al., 2020, eq. 8).

    To first order the removal of w changes ``g'g`` by ``-2 w * Hg``. H and g are of the mean loss over the batches, in
    training mode, with the outputs of the network divided by the temperature. Of several batches each is run twice,
    first for g (billed as one gradient), then for the product (billed as three); of a single one, one forward pass
    serves both.
    """
    weights = list(session.weights.values())
    toward: list[Tensor] | None = None
    product = [torch.zeros_like(weight) for weight in weights]

    def add(total: list[Tensor], scalar: Tensor) -> None:
        for so_far, more in zip(total, grad(scalar, weights, materialize_grads=True), strict=True):
            so_far += more

    with _twice_differentiable(session.model), _softened(session, temperature):
        if batches * session.recipe.accumulate > 1:
            toward = [torch.zeros_like(weight) for weight in weights]
            for loss in session.losses(batches):
                add(toward, loss / batches)
        for loss in session.losses(batches, passes=3):
            own = grad(loss / batches, weights, create_graph=True, materialize_grads=True)
            add(product, sum((o * g.detach()).sum() for o, g in zip(own, toward or own, strict=True)))  # type: ignore[arg-type]
    return Elementwise(torch.mul, session.weights, dict(zip(session.weights, product, strict=True)))


@contextlib.contextmanager
def _twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Kernels whose backward pass has a backward pass of its own: not so the fused ones of attention and recurrence."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            fused: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.mkldnn)
            for backend in fused:
                stack.callback(setattr, backend, "enabled", backend.enabled)
                backend.enabled = False
        yield


@contextlib.contextmanager
def _softened(session: Session, temperature: float) -> Iterator[None]:
    """The outputs of the network divided by a temperature."""
    heard = False

    def divide(module: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal heard
        heard = True
        if isinstance(output, Tensor):
            return output / temperature
        if not isinstance(getattr(output, "logits", None), Tensor):
            raise UsageError(
                f"the network gives a {type(output).__name__}; this criterion needs a tensor, or an object with logits"
            )
        output.logits = output.logits / temperature
        return output

    handle = _voice(session).register_forward_hook(divide)
    try:
        yield
    finally:
        handle.remove()
    _require(heard)


def _voice(session: Session) -> nn.Module:
    """The module whose output is the network's: itself, or, where a task runs it in parts, the part that comes last."""
    model, last = session.model, session.model
    if isinstance(session.task, OwnTask):
        return model

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal last
        last = module

    handles = [module.register_forward_hook(note) for module in (model, *model.children())]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            session.task.forward(model, _example(session))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return last


def _require(heard: bool) -> None:
    if not heard:
        raise UsageError("this criterion looks at the output of the network, and the loss never calls it as a whole")


def _example(session: Session) -> Any:
    """The longest training example as a batch; on a user's own network, the first batch."""
    task = session.task
    if isinstance(task, OwnTask):
        return session._feed_for(session.recipe)(0)[0]
    data, lengths = task.data("train"), task.lengths()
    index = 0 if lengths is None else max(range(len(data)), key=lengths.__getitem__)
    return to_device(task.collate([data[index]]), session.device)


# -- synaptic flow (SynFlow)


class SynapticFlow:
    """``|w * dR/dw|`` of the network of absolute values under an input of ones (SynFlow, Tanaka et al., 2020, eq. 1).

    R is the sum of the outputs. Each call scores the weights that the session has then, hence under its mask; the copy
    of the network that this takes is made once. In evaluation mode, with the absolute values of all parameters and
    buffers, and always in double precision: R is a sum over paths of products as long as the network is deep, in
    single precision beyond reach for some fifty layers.

    The network is run as the task runs it, on one example, of which only the form matters: its lengths, what is padded
    and, for a decoder of trees, the tree. Every floating-point input is one. An embedding is a matrix whose input, a
    word one-hot, has the sum one: under equal entries it gives the mean of its rows, whichever words are asked for.
    (Entries of one would give the sum, which differs by a constant factor in the networks the paper speaks of, but
    shuts the gates of a recurrent layer.) Positions are no input: indices that count up by ones are looked up. As those
    beyond the example see no flow, the longest one is taken.

    Norms, softmax and gates stay as they are, as the recipe has it. Through them R is no sum over paths: the scores of
    a layer do not add up to R, what a layer norm gives may be negative and is then cut by a ReLU, and no flow passes
    where a tanh saturates, as in the decoder of Graph2Tree, nor through queries and keys where all keys are alike, as
    without learned positions. Such weights go first.
    """

    def __init__(self, session: Session) -> None:
        self._session, self._batch = session, _example(session)
        self._model = copy.deepcopy(session.model).double().eval()
        with torch.no_grad():
            for tensor in (*self._model.parameters(), *self._model.buffers()):
                tensor.abs_()
        parameters = dict(self._model.named_parameters())
        self._weights = {name: parameters[name] for name in session.weights}
        self._output: Tensor | None = None
        self._model.register_forward_pre_hook(lambda _, args, kwargs: (_ones(args), _ones(kwargs)), with_kwargs=True)
        for module in (self._model, *self._model.children()):
            module.register_forward_hook(self._listen)
        self._flops = measure(lambda: self._outputs().sum(), self._weights, list(self._weights.values()))

    def __call__(self) -> dict[str, Tensor]:
        """The scores under the session's mask; billed by the operations of this one example, which is no batch."""
        begin, account = time.perf_counter(), self._session.account
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(self._session.weights[name]).abs_()
        outputs = self._outputs()
        found = grad(outputs, list(self._weights.values()), torch.ones_like(outputs), materialize_grads=True)
        scores = {
            name: (weight.detach() * flow).abs_()
            for (name, weight), flow in zip(self._weights.items(), found, strict=True)
        }
        densities = self._session.mask.layer_densities()
        account.train_flops += round(self._flops.step(densities, densities))
        account.train_flops_dense += round(self._flops.step())
        account.seconds += time.perf_counter() - begin
        return scores

    def _outputs(self) -> Tensor:
        self._output, default = None, torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with _DataFree(), contextlib.suppress(_Heard):
                self._session.task.forward(self._model, self._batch)
        finally:
            torch.set_default_dtype(default)
        _require(self._output is not None)
        assert self._output is not None
        return self._output

    def _listen(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """The last to be heard is the network itself, or, where a task runs it in parts, the part that comes last."""
        self._output = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if module is self._model and isinstance(self._session.task, OwnTask):
            raise _Heard  # what follows is the user's loss, which need not bear double precision


class _Heard(Exception):
    """The network has answered."""


class _DataFree(TorchFunctionMode):
    """Embeddings of words give the mean of their rows, and what is cast to single precision is cast to double."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()
        if func is F.embedding:
            index, weight = args[:2]
            if not _counts_up(index):
                return weight.mean(0).expand(*index.shape, -1)
        return func(*args, **(kwargs or {}))


def _counts_up(index: Tensor) -> bool:
    """Whether indices are positions: some row, at least the longest where others are padded, counts up by ones."""
    return index.ndim > 0 and index.shape[-1] > 1 and bool((index.diff(dim=-1) == 1).all(-1).any())


def _ones(value: Any) -> Any:
    """Ones for floating-point tensors in a nest of dicts, lists and tuples."""
    if isinstance(value, Tensor):
        return torch.ones_like(value, dtype=torch.float64) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _ones(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_ones(item) for item in value)
    return value
