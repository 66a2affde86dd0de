"""Stored weights as evidence: which run they are of, and how many of them are zero, counted in their bytes."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from smcbench import cell, files, plugins
from smcbench.errors import InvalidInput
from smcbench.results import record as r
from smcbench.results.record import RunRecord
from smcbench.results.weights import Array, SparseWeights
from smcbench.sparsity.mask import Mask
from smcbench.state import State, named_tensors
from smcbench.task import Task


def digest_of(weights: SparseWeights, network: Task) -> str:
    """The digest that a run with these weights has in its record: of the state, or of those of its parts.

    Raises:
        InvalidInput: they are not those of the network.
    """
    digests = []
    for number, part in enumerate(network.parts):
        prefix = f"{number}." if len(network.parts) > 1 else ""
        model = _architecture(part)
        shapes = {name: tuple(tensor.shape) for name, tensor in named_tensors(model)}
        own = {name.removeprefix(prefix): a for name, a in weights.tensors.items() if name.startswith(prefix)}
        if {name: array.shape for name, array in own.items()} != shapes:
            name = min({(n, a.shape) for n, a in own.items()} ^ set(shapes.items()))[0]
            raise InvalidInput(f"{prefix}{name} is not as in the model of {network.name}")
        prunable = part.prunable(model)
        if {name.removeprefix(prefix) for name in weights.mask if name.startswith(prefix)} != set(prunable):
            raise InvalidInput(f"its mask is not of the prunable weights of {network.name}")
        mask = {name: torch.from_numpy(weights.mask[prefix + name].copy()).reshape(shapes[name]) for name in prunable}
        digests.append(State({name: as_tensor(own[name]) for name in shapes}, Mask(mask)).digest())
    return digests[0] if len(digests) == 1 else files.digest(digests)


def are_of(weights: SparseWeights, task: Task, record: RunRecord) -> bool:
    """Whether these are the weights and the mask that a record tells of."""
    named = plugins.known(record.spec.sparsifier.label)
    network = task if named is None else named.sparsifier.network(task, record.spec.sparsity)
    try:
        same = digest_of(weights, network) == record.digests.weights
    except InvalidInput:
        return False
    return same and weights.mask_digest() == record.digests.mask


def recount(weights: SparseWeights, task: Task, network: Task) -> tuple[r.Denominators, dict[str, float]]:
    """The zeros over the four denominators, and the density of each prunable tensor, from the bytes.

    A smaller network is counted as the task's with the rest of its weights zero.
    """
    zeros, several = weights.zeros(), len(task.parts) > 1
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    layers: dict[str, float] = {}
    for number, (part, inner) in enumerate(zip(task.parts, network.parts, strict=True)):
        prefix = f"{number}." if several else ""
        whole, found = sizes(part), sizes(inner)
        for kind, names in found.items():
            size = sum(whole[kind].values())
            totals[kind][0] += size
            totals[kind][1] += size - sum(names.values()) + sum(zeros[prefix + name] for name in names)
        for name, size in whole["scope"].items():
            kept = found["scope"][name] - zeros[prefix + name]
            layers[prefix + name] = kept / size
    return r.Denominators(**{kind: r.Count(*pair) for kind, pair in totals.items()}), layers


def sizes(task: Task) -> dict[str, dict[str, int]]:
    """Sizes of the tensors behind each denominator, by name."""
    model = _architecture(task)
    parameters = dict(model.named_parameters())
    names = {id(p): name for name, p in parameters.items()}
    behind = cell.counted(model, {name: parameters[name] for name in task.prunable(model)})
    return {kind: {names[id(t)]: t.numel() for t in tensors} for kind, tensors in behind.items()}


def _architecture(task: Task) -> nn.Module:
    with torch.device("meta"):
        return task.architecture()


def as_tensor(array: Array) -> Tensor:
    """Stored weights as torch has them."""
    flat = torch.frombuffer(bytearray(array.words.tobytes() or b"\0" * 8), dtype=_DTYPES[array.dtype])
    return flat[: len(array.words)].clone().reshape(array.shape)


_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
