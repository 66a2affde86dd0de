"""A user's own network as a task: just enough of one for a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

from torch import Tensor, nn

from smcbench.errors import UsageError
from smcbench.recipe import Recipe
from smcbench.task import Evaluation, Metric, Outputs, Scope, Split, Task


class OwnTask(Task):
    """The adapter behind ``Session.of``: the user's loss and batches, no data set and no test split."""

    name = "own"
    family: ClassVar[str] = "own"
    version: ClassVar[int] = 1
    metric: ClassVar[Metric] = Metric("score", unit="")
    scope: Scope = "all"

    def __init__(
        self,
        loss: Callable[[nn.Module, Any], Tensor],
        prunable: Callable[[str, nn.Parameter], bool] | Sequence[str] | None,
        evaluate: Callable[[nn.Module], float] | None,
        recipe: Recipe,
    ) -> None:
        self.recipe = recipe
        self._loss, self._prunable, self._evaluate = loss, prunable, evaluate

    def prunable(self, model: nn.Module) -> list[str]:
        """The user's choice, or every matrix and kernel."""
        if self._prunable is None:
            return super().prunable(model)
        parameters = dict(model.named_parameters())
        if callable(self._prunable):
            return [name for name, parameter in parameters.items() if self._prunable(name, parameter)]
        for name in self._prunable:
            if name not in parameters:
                raise UsageError(f"prunable: the model has no parameter {name!r}")
        return list(self._prunable)

    def forward(self, model: nn.Module, batch: Any) -> Outputs:
        """The user's loss stands where logits would."""
        return Outputs(self._loss(model, batch))

    def loss(self, outputs: Outputs, batch: Any) -> tuple[Tensor, int]:
        """The mean loss of the batch, as the user computed it."""
        return outputs.logits, 1

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        """The user's score."""
        if self._evaluate is None:
            raise UsageError("this method looks at a validation score; give Session.of an evaluate=... function")
        return Evaluation({self.metric.name: self._evaluate(sparse_model)}, {})

    def build_model(self) -> nn.Module:
        """There is no recipe for the user's model."""
        self._refuse("another initialisation")

    def data(self, split: Split) -> Sequence[Any]:
        """The user feeds the batches."""
        self._refuse("examples by index")

    def collate(self, examples: list[Any]) -> Any:
        """The user feeds the batches."""
        self._refuse("examples by index")

    def tiny(self) -> Task:
        """There is none."""
        self._refuse("a tiny variant")

    def _refuse(self, what: str) -> NoReturn:
        raise UsageError(f"a session on your own network does not know {what}; write a task for it")
