"""The goal-driven tree decoder (Xie and Sun, 2019), for a whole batch at once.

An expression is written in prefix order, from the root down. Each node has a goal, a vector: the root's is the problem,
and an operator makes the goals of its two operands. A node's token is chosen by its goal, what the goal attends to in
the problem, and, for a right operand, the embedding of the finished left one. Here a step writes one token of every
expression: :class:`Forest` keeps what is open in all of them as tensors, so that there is no loop over examples, in
training nor in beam search.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._expressions import OPERATORS

END = -1
"""Stands for a token after the end of an expression."""


class Problems(NamedTuple):
    """A batch of encoded problems.

    Attributes:
        goal: what each asks for, shape (batch, width).
        words: encoded words, shape (batch, length, width).
        real: which of them are no padding, shape (batch, length).
        numbers: encoded quantities, shape (batch, most, width).
        given: which of them there are, shape (batch, most).
    """

    goal: Tensor
    words: Tensor
    real: Tensor
    numbers: Tensor
    given: Tensor


class Read(NamedTuple):
    """Of a batch of problems, what every step of the decoder looks at.

    Attributes:
        leaves: embeddings of constants and numbers, shape (batch, leaves, width).
        there: which of them there are, shape (batch, leaves).
        words, real: of the problems.
        keys: the words' part of the attention's hidden layer, shape (batch, length, width).
    """

    leaves: Tensor
    there: Tensor
    words: Tensor
    real: Tensor
    keys: Tensor

    def repeated(self, times: int) -> Read:
        """Each problem so many times in a row."""
        return Read(*(tensor.repeat_interleave(times, dim=0) for tensor in self))


@dataclass
class Forest:
    """As many unfinished expressions as there are rows, each with one node that is due.

    A frame on the stack is an operator whose operands are not both there: with the embedding of the operator, the goal
    of its right operand, and the embedding of its left one as soon as that is finished.

    Attributes:
        goal: of the node that is due, shape (rows, width).
        left: embedding of its left sibling, anything if it has none, shape (rows, width).
        is_right: whether it has one, shape (rows, 1).
        rights, lefts: goals of right and embeddings of left operands by frame, shape (rows, depth, width).
        operators: embeddings of operators by frame, shape (rows, depth, embedding).
        filled: whether a frame has its left operand, shape (rows, depth).
        size: frames on the stack, shape (rows,).
        open: whether the expression is not finished yet, shape (rows,).
    """

    goal: Tensor
    left: Tensor
    is_right: Tensor
    rights: Tensor
    lefts: Tensor
    operators: Tensor
    filled: Tensor
    size: Tensor
    open: Tensor

    @classmethod
    def planted(cls, goal: Tensor, embedding: int) -> Forest:
        """Nothing but roots, with these goals."""
        rows, width = goal.shape
        none = goal.new_zeros(rows, 0, width)
        flags = torch.zeros(rows, 1, dtype=torch.bool, device=goal.device)
        return cls(
            goal, torch.zeros_like(goal), flags, none, none, goal.new_zeros(rows, 0, embedding),
            flags[:, :0], torch.zeros(rows, dtype=torch.long, device=goal.device), ~flags[:, 0],
        )  # fmt: skip

    def chosen(self, rows: Tensor) -> Forest:
        """The forest of these rows, which may repeat."""
        return Forest(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def push(self, rows: Tensor, left_goal: Tensor, right_goal: Tensor, operator: Tensor) -> None:
        """In these rows the node is an operator: its left operand is due, its right one is kept for later."""
        if len(rows) == 0:
            return
        self._grow()
        frame = (rows, self.size[rows])
        self.rights = _put(self.rights, frame, right_goal)
        self.operators = _put(self.operators, frame, operator)
        self.filled = self.filled.index_put(frame, self.filled.new_tensor(False))
        self.size = self.size.index_add(0, rows, torch.ones_like(rows))
        self.goal = self.goal.index_copy(0, rows, left_goal.to(self.goal))
        self.is_right = self.is_right.index_fill(0, rows, False)

    def close(self, rows: Tensor, tree: Tensor, merge: Merge) -> None:
        """In these rows the node is a leaf with the embedding ``tree``.

        It finishes every operator of which it ends the right operand, innermost first; then the right operand of the
        operator above is due, or the expression is at its end.
        """
        tree = tree.to(self.goal)
        while len(rows):
            under = self.size[rows] > 0
            self.open = self.open.index_fill(0, rows[~under], False)
            rows, tree = rows[under], tree[under]
            top = self.size[rows] - 1
            ends = self.filled[rows, top]
            begins = ~ends
            frame = (rows[begins], top[begins])
            self.lefts = _put(self.lefts, frame, tree[begins])
            self.filled = self.filled.index_put(frame, self.filled.new_tensor(True))
            self.goal = self.goal.index_copy(0, frame[0], self.rights[frame])
            self.left = self.left.index_copy(0, frame[0], tree[begins])
            self.is_right = self.is_right.index_fill(0, frame[0], True)
            rows, top = rows[ends], top[ends]
            if len(rows):
                tree = merge(self.operators[rows, top], self.lefts[rows, top], tree[ends]).to(self.goal)
                self.size = self.size.index_add(0, rows, -torch.ones_like(rows))

    def _grow(self) -> None:
        """Room for one more frame, where some row needs it."""
        if int(self.size.max()) < self.rights.shape[1]:
            return

        def longer(stack: Tensor) -> Tensor:
            return torch.cat([stack, stack.new_zeros(len(stack), 1, *stack.shape[2:])], dim=1)

        self.rights, self.lefts, self.operators, self.filled = map(
            longer, (self.rights, self.lefts, self.operators, self.filled)
        )


def _put(stack: Tensor, frame: tuple[Tensor, Tensor], values: Tensor) -> Tensor:
    """The stack with other values in these frames; in bf16 on a GPU, autocast knows no type for that."""
    with torch.autocast(stack.device.type, enabled=False):
        return stack.index_put(frame, values.to(stack))


def _gated(value: nn.Linear, gate: nn.Linear, inputs: Tensor) -> Tensor:
    return torch.tanh(value(inputs)) * torch.sigmoid(gate(inputs))


class Predict(nn.Module):
    """Scores of all tokens for the node that is due: operators, constants, the problem's numbers."""

    def __init__(self, width: int, constants: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        # Of three dimensions, as in SMC-Bench: not a matrix, so not in the scope.
        self.constants = nn.Parameter(torch.randn(1, constants, width))
        self.root, self.root_gate = nn.Linear(width, width), nn.Linear(width, width)
        self.right, self.right_gate = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.attend, self.attend_score = nn.Linear(2 * width, width), nn.Linear(width, 1)
        self.operators = nn.Linear(2 * width, len(OPERATORS))
        self.match, self.match_score = nn.Linear(3 * width, width), nn.Linear(width, 1, bias=False)

    def read(self, problems: Problems) -> Read:
        """What every step looks at."""
        constants = self.constants.expand(len(problems.numbers), -1, -1)
        return Read(
            torch.cat([constants.to(problems.numbers), problems.numbers], dim=1),
            F.pad(problems.given, (self.constants.shape[1], 0), value=True),
            problems.words,
            problems.real,
            _second(self.attend, problems.words),
        )

    def forward(self, forest: Forest, read: Read) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of shape (rows, operators + constants + numbers), and the node's vector and context."""
        goal, left = self.dropout(forest.goal), self.dropout(forest.left)
        pair = torch.cat([left, goal], dim=1)
        node = torch.where(
            forest.is_right, _gated(self.right, self.right_gate, pair), _gated(self.root, self.root_gate, goal)
        )
        energies = self.attend_score(torch.tanh(_first(self.attend, self.dropout(node))[:, None] + read.keys))[..., 0]
        weights = _only(energies, read.real).softmax(dim=1).to(read.words)
        context = (weights[:, None] @ read.words)[:, 0]
        leaf = self.dropout(torch.cat([node, context], dim=1))
        options = _second(self.match, self.dropout(read.leaves))
        scores = self.match_score(torch.tanh(_first(self.match, leaf)[:, None] + options))[..., 0]
        return torch.cat([self.operators(leaf), _only(scores, read.there)], dim=1), node, context


def _only(scores: Tensor, there: Tensor) -> Tensor:
    """Scores, the least there is for what cannot be chosen: finite, so that a loss may look at it."""
    return scores.masked_fill(~there, torch.finfo(scores.dtype).min)


def _first(linear: nn.Linear, inputs: Tensor) -> Tensor:
    """What a layer over two concatenated inputs makes of the first."""
    return F.linear(inputs, linear.weight[:, : inputs.shape[-1]])


def _second(linear: nn.Linear, inputs: Tensor) -> Tensor:
    """And of the second, with the bias; apart, each is computed once where the other has many."""
    return F.linear(inputs, linear.weight[:, -inputs.shape[-1] :], linear.bias)


class Generate(nn.Module):
    """The goals of an operator's operands."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embeddings = nn.Embedding(len(OPERATORS), embedding)
        inputs = 2 * width + embedding
        self.left, self.left_gate = nn.Linear(inputs, width), nn.Linear(inputs, width)
        self.right, self.right_gate = nn.Linear(inputs, width), nn.Linear(inputs, width)

    def forward(self, node: Tensor, context: Tensor, operator: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Goals of the left and the right operand, and the operator's embedding."""
        embedded = self.embeddings(operator)
        inputs = torch.cat([self.dropout(node), self.dropout(context), self.dropout(embedded)], dim=1)
        return _gated(self.left, self.left_gate, inputs), _gated(self.right, self.right_gate, inputs), embedded


class Merge(nn.Module):
    """The embedding of an operator with both its operands."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        inputs = 2 * width + embedding
        self.merge, self.merge_gate = nn.Linear(inputs, width), nn.Linear(inputs, width)

    def forward(self, operator: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Shape (rows, width)."""
        inputs = torch.cat([self.dropout(operator), self.dropout(left), self.dropout(right)], dim=1)
        return _gated(self.merge, self.merge_gate, inputs)


def _write(
    forest: Forest, tokens: Tensor, node: Tensor, context: Tensor, leaves: Tensor, generate: Generate, merge: Merge
) -> None:
    """One token written in every row; none where it is :data:`END`."""
    rows = ((tokens >= 0) & (tokens < len(OPERATORS))).nonzero()[:, 0]
    forest.push(rows, *generate(node[rows], context[rows], tokens[rows]))
    rows = (tokens >= len(OPERATORS)).nonzero()[:, 0]
    forest.close(rows, leaves[rows, tokens[rows] - len(OPERATORS)], merge)


def teach(problems: Problems, targets: Tensor, predict: Predict, generate: Generate, merge: Merge) -> Tensor:
    """Logits for every token of the expressions ``targets``, each given the right ones before it.

    Args:
        targets: tokens in prefix order, :data:`END` after the last, shape (batch, longest).

    Returns:
        Shape (batch, longest, operators + constants + numbers); arbitrary after the end of an expression.
    """
    forest = Forest.planted(problems.goal, generate.embeddings.embedding_dim)
    read = predict.read(problems)
    logits = []
    for tokens in targets.unbind(dim=1):
        scores, node, context = predict(forest, read)
        logits.append(scores)
        _write(forest, tokens, node, context, read.leaves, generate, merge)
    return torch.stack(logits, dim=1)


def search(
    problems: Problems, beams: int, longest: int, predict: Predict, generate: Generate, merge: Merge
) -> list[list[int]]:
    """The likeliest expression of each problem that beam search finds, of at most ``longest`` tokens.

    At each step the best ``beams`` of all continuations go on, by the sum of log-probabilities; a finished expression
    keeps its place as it is. The search of a problem ends when all its beams are finished.
    """
    batch, device = len(problems.goal), problems.goal.device
    read = predict.read(problems).repeated(beams)
    forest = Forest.planted(problems.goal.repeat_interleave(beams, dim=0), generate.embeddings.embedding_dim)
    totals = torch.full((batch, beams), -torch.inf, device=device)
    totals[:, 0] = 0.0  # at first all beams are the same
    written = torch.empty(batch * beams, 0, dtype=torch.long, device=device)
    first = torch.arange(batch, device=device)[:, None] * beams
    for _ in range(longest):
        scores, node, context = predict(forest, read)
        gains = scores.float().log_softmax(dim=1)
        stays = torch.full_like(gains, -torch.inf)
        stays[:, 0] = 0.0
        gains = torch.where(forest.open[:, None], gains, stays)
        choices = gains.shape[1]
        totals, best = (totals.view(-1, 1) + gains).view(batch, beams * choices).topk(beams, dim=1)
        rows, tokens = (first + best // choices).flatten(), (best % choices).flatten()
        forest = forest.chosen(rows)
        tokens = torch.where(forest.open, tokens, END)
        written = torch.cat([written[rows], tokens[:, None]], dim=1)
        _write(forest, tokens, node[rows], context[rows], read.leaves, generate, merge)
        if not bool((forest.open & torch.isfinite(totals.flatten())).any()):
            break
    likeliest = written.view(batch, beams, -1)[torch.arange(batch, device=device), totals.argmax(dim=1)]
    return [[token for token in row if token != END] for row in likeliest.tolist()]
