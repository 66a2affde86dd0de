"""The batched tree decoder against one example at a time, and against all expressions there are."""

from __future__ import annotations

import dataclasses
import itertools
import random
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from trees import OPS, memories, search_one, teach_each

from smcbench.feed import to_device
from smcbench.session import Session, build_model
from smcbench.task import Batch
from smcbench_tasks._expressions import OPERATORS, is_right, value
from smcbench_tasks._solvers import Network, Solver
from smcbench_tasks._trees import END, Forest
from smcbench_tasks.arithmetic import Arithmetic, svamp_graph2tree_small, svamp_mini

SIGNS = tuple(OPERATORS)


def expression(draw: random.Random, leaves: int, operators: int) -> list[int]:
    """A random tree in prefix order, with so many operators."""
    if operators == 0:
        return [OPS + draw.randrange(leaves)]
    left = draw.randrange(operators)
    return [draw.randrange(OPS), *expression(draw, leaves, left), *expression(draw, leaves, operators - 1 - left)]


def network(kind: str, constants: int = 2, width: int = 16) -> Network:
    torch.manual_seed(0)
    made = Solver(kind, width, 12, dropout=0.0).build(30, constants).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2.0)  # decisions that differ from node to node
    return made


def batch(size: int, constants: int = 2, seed: int = 0, most: int = 6, graph: bool = False) -> Batch:
    draw = random.Random(seed)
    lengths = [draw.randint(4, 12) for _ in range(size)]
    counts = [draw.randint(1, 3) for _ in range(size)]
    rows = [expression(draw, constants + count, draw.randrange(most)) for count in counts]
    longest = max(map(len, rows))
    tokens = torch.zeros(size, max(lengths), dtype=torch.long)
    places = torch.full((size, max(counts)), -1)
    targets = torch.full((size, longest), END)
    links = torch.zeros(size, 2, max(lengths), max(lengths), dtype=torch.bool)
    for at, (length, count, row) in enumerate(zip(lengths, counts, rows, strict=True)):
        tokens[at, :length] = torch.tensor([draw.randrange(30) for _ in range(length)])
        places[at, :count] = torch.tensor(sorted(draw.sample(range(length), count)))
        targets[at, : len(row)] = torch.tensor(row)
        links[at, :, :length, :length] = (
            torch.rand(2, length, length, generator=torch.Generator().manual_seed(at)) < 0.3
        )
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {"tokens": tokens, "real": real, "places": places, "targets": targets, **({"graph": links} if graph else {})}


@pytest.mark.parametrize("kind", ["gts", "graph2tree"])
def test_teacher_forcing_equals_one_example_at_a_time(kind: str) -> None:
    made, some = network(kind), batch(24, graph=kind == "graph2tree")
    with torch.no_grad():
        together = made(some)
        for at, alone in enumerate(teach_each(made, some)):
            for step, logits in enumerate(alone):
                torch.testing.assert_close(together[at, step, : len(logits)], logits, atol=1e-5, rtol=1e-5)
                assert not together[at, step].softmax(0)[len(logits) :].any()  # numbers that are not there
    assert {1, 3, 5} <= set((some["targets"] != END).sum(1).tolist())  # leaves alone, and trees of several depths


def test_gradients_equal_those_of_one_example_at_a_time() -> None:
    made, some = network("gts"), batch(12)
    targets = some["targets"]

    def gradients(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(made.parameters())))

    chosen = made(some).log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
    together = gradients(-chosen[targets != END].sum())
    alone = [
        -logits.log_softmax(0)[token]
        for logits_, row in zip(teach_each(made, some), targets.tolist(), strict=True)
        for logits, token in zip(logits_, row, strict=False)
    ]
    for one, other in zip(together, gradients(torch.stack(alone).sum()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-6)


@pytest.fixture(scope="module")
def trained() -> tuple[Arithmetic, Network]:
    """A network that has begun to learn, so that its expressions differ."""
    tiny = svamp_mini.tiny()
    tiny = dataclasses.replace(tiny, recipe=tiny.recipe.replace(steps=60, lr=0.01))
    session = Session(tiny, build_model(tiny, 0), tiny.recipe)
    session.train()
    return tiny, session.model.eval()  # type: ignore[return-value]


@pytest.mark.parametrize(("beams", "longest"), [(1, 9), (3, 9), (5, 9), (5, 3)])
def test_beam_search_equals_one_example_at_a_time(
    trained: tuple[Arithmetic, Network], beams: int, longest: int
) -> None:
    task, made = trained
    some = task.collate(list(task.data("test")[:16]))
    with torch.no_grad():
        together = made.solve(some, beams, longest)
        alone = [search_one(made, memory, beams, longest) for memory in memories(made, some)]
    assert together == alone
    assert len({tuple(row) for row in together}) > 3


def test_a_beam_of_all_finds_the_likeliest_of_all_expressions() -> None:
    made, some = network("gts", constants=1), batch(6, constants=1, seed=2)
    found = made.solve(some, 200, 3)
    for at, row in enumerate(found):
        leaves = range(OPS, OPS + 1 + int((some["places"][at] >= 0).sum()))
        every = [[leaf] for leaf in leaves]
        every += [[op, a, b] for op, a, b in itertools.product(range(OPS), leaves, leaves)]
        # What is cut off at three tokens competes as well: an operator above an operator.
        cut = [[op, *two] for op in range(OPS) for two in itertools.product(range(OPS), [*range(OPS), *leaves])]
        cut += [[op, leaf, last] for op, leaf, last in itertools.product(range(OPS), leaves, range(OPS))]
        every += cut
        assert row == every[int(log_probabilities(made, some, at, every).argmax())]


def log_probabilities(made: Network, some: Batch, at: int, rows: list[list[int]]) -> Tensor:
    many = {key: tensor[at : at + 1].expand(len(rows), *tensor.shape[1:]) for key, tensor in some.items()}
    targets = torch.full((len(rows), 3), END)
    for place, row in enumerate(rows):
        targets[place, : len(row)] = torch.tensor(row)
    with torch.no_grad():
        logits = made({**many, "targets": targets}).log_softmax(-1)
    return (logits.gather(2, targets.clamp(min=0)[..., None])[..., 0] * (targets != END)).sum(1)


def test_padding_changes_nothing() -> None:
    made, some = network("graph2tree"), batch(4, graph=True)
    wider = {
        "tokens": torch.nn.functional.pad(some["tokens"], (0, 5)),
        "real": torch.nn.functional.pad(some["real"], (0, 5)),
        "places": torch.nn.functional.pad(some["places"], (0, 2), value=-1),
        "targets": torch.nn.functional.pad(some["targets"], (0, 3), value=END),
        "graph": torch.nn.functional.pad(some["graph"], (0, 5, 0, 5)),
    }
    with torch.no_grad():
        narrow, wide = made(some), made(wider)
    real = some["targets"] != END
    torch.testing.assert_close(narrow[real], wide[:, : narrow.shape[1], : narrow.shape[2]][real])
    assert made.solve(some, 3, 7) == made.solve(wider, 3, 7)


def test_the_forest_by_hand() -> None:
    """``+ a * b c``: after a, the right operand of + is due, with a to its left; after c, all is merged."""

    def merge(operator: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return operator + 10 * left + 100 * right

    def of(number: float) -> Tensor:
        return torch.full((1, 1), number)

    forest, here = Forest.planted(of(0.5), 1), torch.tensor([0])
    forest.push(here, of(1), of(2), of(7))
    assert (forest.goal.item(), bool(forest.is_right)) == (1, False)
    forest.close(here, of(3), merge)  # type: ignore[arg-type]
    assert (forest.goal.item(), forest.left.item(), bool(forest.is_right)) == (2, 3, True)
    forest.push(here, of(4), of(5), of(8))
    assert (forest.goal.item(), bool(forest.is_right)) == (4, False)
    forest.close(here, of(6), merge)  # type: ignore[arg-type]
    assert (forest.goal.item(), forest.left.item(), forest.open.item()) == (5, 6, True)
    merged: list[float] = []

    def watched(*parts: Tensor) -> Tensor:
        merged.append(merge(*parts).item())
        return merge(*parts)

    forest.close(here, of(9), watched)  # type: ignore[arg-type]
    assert merged == [8 + 60 + 900, 7 + 30 + 100 * 968]
    assert not forest.open.item()


# -- expressions


@st.composite
def prefix(draw: st.DrawFn, depth: int = 4) -> list[str]:
    if depth == 0 or draw(st.booleans()):
        return [draw(st.sampled_from(["number0", "number1", "3", "0.5"]))]
    return [draw(st.sampled_from(SIGNS)), *draw(prefix(depth - 1)), *draw(prefix(depth - 1))]


@given(prefix(), st.integers(-20, 20), st.integers(-20, 20))
def test_a_value_is_that_of_exact_arithmetic(tokens: list[str], a: int, b: int) -> None:
    """Beside Python's own parser and fractions, on the same expression written with brackets."""
    divides = "/" in tokens

    def infix(rest: list[str]) -> str:
        head = rest.pop(0)
        if head in SIGNS:
            left = infix(rest)
            return f"({left} {head} {infix(rest)})"
        return f"F('{ {'number0': a, 'number1': b}.get(head, head) }')"

    try:
        expected = eval(infix(list(tokens)), {"F": Fraction})
    except ZeroDivisionError:
        return
    found = value(tokens, [a, b])
    if found is None:
        assert divides  # by what is zero once it is rounded
    else:
        assert found == pytest.approx(float(expected), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "+", "+ number0", "number0 number1", "+ number0 number1 number0", "+ number0 number9", "** number0 number1",
     "/ number0 - number1 number1", "+ number0 nan", "* 1e300 1e300", "__import__('os')", "number-1", "number²"],
)  # fmt: skip
def test_what_has_no_value(text: str) -> None:
    assert value(text.split(), [2.0, 3.0]) is None


def test_right_is_what_is_near() -> None:
    assert is_right(["/", "number0", "number1"], [1, 3], 0.33333)
    assert not is_right(["/", "number0", "number1"], [1, 3], 0.333)
    assert not is_right(["/", "number0", "number1"], [1, 0], 0.0)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["gts", "graph2tree"])
def test_a_gpu_gives_and_bills_what_a_cpu_does(kind: str) -> None:
    """Recurrent layers, index updates and views of one storage are where devices differ."""
    task = {"gts": svamp_mini, "graph2tree": svamp_graph2tree_small}[kind].tiny()
    examples = list(task.data("test"))
    found = {}
    for device in ("cpu", "cuda"):
        session = Session(task, build_model(task, 0, device), task.recipe)
        batch = to_device(task.collate(examples), torch.device(device))
        session.model.eval()
        with torch.no_grad():
            logits = session.model(batch)[batch["targets"] != END]
        found[device] = (logits.cpu(), session._measure_flops(), task.evaluate(session.model).predictions)
    torch.testing.assert_close(found["cpu"][0], found["cuda"][0], atol=1e-4, rtol=1e-4)
    assert found["cpu"][1:] == found["cuda"][1:]
