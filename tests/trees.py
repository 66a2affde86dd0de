"""The goal-driven tree decoder one example at a time, with Python's own stack: what the batched one must equal.

Written from the papers' description (Xie and Sun, 2019), on the weights of a network of ours.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smcbench.task import Batch
from smcbench_tasks._expressions import OPERATORS
from smcbench_tasks._solvers import Network
from smcbench_tasks._trees import END

OPS = len(OPERATORS)


class Memory(NamedTuple):
    """Of one problem: its vector, its words and what may be a leaf."""

    goal: Tensor
    words: Tensor
    leaves: Tensor


def memories(network: Network, batch: Batch) -> list[Memory]:
    """Each problem read by itself, without padding."""
    found = []
    for row in range(len(batch["tokens"])):
        length, count = int(batch["real"][row].sum()), int((batch["places"][row] >= 0).sum())
        one = {"tokens": batch["tokens"][row : row + 1, :length], "real": batch["real"][row : row + 1, :length],
               "places": batch["places"][row : row + 1, :count]}  # fmt: skip
        if "graph" in batch:
            one["graph"] = batch["graph"][row : row + 1, :, :length, :length]
        problems = network.problems(one)
        leaves = torch.cat([network.predict.constants[0], problems.numbers[0]])
        found.append(Memory(problems.goal[0], problems.words[0], leaves))
    return found


def scores(network: Network, memory: Memory, goal: Tensor, left: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a node, its vector and its context."""
    p = network.predict
    if left is None:
        node = torch.tanh(p.root(goal)) * torch.sigmoid(p.root_gate(goal))
    else:
        pair = torch.cat([left, goal])
        node = torch.tanh(p.right(pair)) * torch.sigmoid(p.right_gate(pair))
    energies = torch.stack([p.attend_score(torch.tanh(p.attend(torch.cat([node, word]))))[0] for word in memory.words])
    context = energies.softmax(0) @ memory.words
    leaf = torch.cat([node, context])
    matches = [p.match_score(torch.tanh(p.match(torch.cat([leaf, each]))))[0] for each in memory.leaves]
    return torch.cat([p.operators(leaf), *([torch.stack(matches)] if matches else [])]), node, context


def goals(network: Network, node: Tensor, context: Tensor, operator: int) -> tuple[Tensor, Tensor, Tensor]:
    g = network.generate
    embedded = g.embeddings.weight[operator]
    inputs = torch.cat([node, context, embedded])
    left = torch.tanh(g.left(inputs)) * torch.sigmoid(g.left_gate(inputs))
    right = torch.tanh(g.right(inputs)) * torch.sigmoid(g.right_gate(inputs))
    return left, right, embedded


def joined(network: Network, embedded: Tensor, left: Tensor, right: Tensor) -> Tensor:
    m = network.merge
    inputs = torch.cat([embedded, left, right])
    return torch.tanh(m.merge(inputs)) * torch.sigmoid(m.merge_gate(inputs))


def teach_one(network: Network, memory: Memory, expression: list[int]) -> list[Tensor]:
    """Logits for each token of one expression, by recursion over its tree."""
    logits: list[Tensor] = []
    tokens = iter(expression)

    def subtree(goal: Tensor, left: Tensor | None) -> Tensor:
        found, node, context = scores(network, memory, goal, left)
        logits.append(found)
        token = next(tokens)
        if token >= OPS:
            return memory.leaves[token - OPS]
        left_goal, right_goal, embedded = goals(network, node, context, token)
        one = subtree(left_goal, None)
        return joined(network, embedded, one, subtree(right_goal, one))

    subtree(memory.goal, None)
    return logits


def teach_each(network: Network, batch: Batch) -> list[list[Tensor]]:
    """:func:`teach_one` for every problem of a batch."""
    expressions = [[t for t in row if t != END] for row in batch["targets"].tolist()]
    return [teach_one(network, m, e) for m, e in zip(memories(network, batch), expressions, strict=True)]


class Beam(NamedTuple):
    total: float
    tokens: list[int]
    due: list[tuple[Tensor, Tensor | None]]
    """Goals that are open, the next one last, each with its left sibling once that is known."""
    frames: list[Any]
    """Operators that wait: ``[embedding, left or None]``."""


def search_one(network: Network, memory: Memory, beams: int, longest: int) -> list[int]:
    """Beam search for one problem."""
    alive = [Beam(0.0, [], [(memory.goal, None)], [])]
    for _ in range(longest):
        grown: list[Beam] = []
        for beam in alive:
            if not beam.due:
                grown.append(beam)
                continue
            goal, left = beam.due[-1]
            logits, node, context = scores(network, memory, goal, left)
            gains = logits.log_softmax(0)
            for token in range(len(gains)):
                due, frames = beam.due[:-1], [list(frame) for frame in beam.frames]
                if token < OPS:
                    left_goal, right_goal, embedded = goals(network, node, context, token)
                    due = [*due, (right_goal, None), (left_goal, None)]
                    frames.append([embedded, None])
                else:
                    tree = memory.leaves[token - OPS]
                    while frames and frames[-1][1] is not None:
                        embedded, other = frames.pop()
                        tree = joined(network, embedded, other, tree)
                    if frames:
                        frames[-1][1] = tree
                        due = [*due[:-1], (due[-1][0], tree)]
                grown.append(Beam(beam.total + gains[token].item(), [*beam.tokens, token], due, frames))
        alive = sorted(grown, key=lambda beam: -beam.total)[:beams]
        if not any(beam.due for beam in alive):
            break
    return max(alive, key=lambda beam: beam.total if math.isfinite(beam.total) else -math.inf).tokens
