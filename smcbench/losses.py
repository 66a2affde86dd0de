"""Losses of a method's own, for any task whose loss is a cross-entropy or a squared error: pass one as ``loss=``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from smcbench.errors import UsageError
from smcbench.session import Loss, Session
from smcbench.task import Batch, Outputs


def distilled(session: Session, teacher: Session, hardness: float = 1.0, temperature: float = 1.0) -> Loss:
    """``(1 - h) L + h T^2 KL(teacher || student)``, both softened by ``T`` (Hinton et al., 2015, arXiv:1503.02531).

    Of a number there is no distribution: there the teacher's answer takes the place of the label. What the teacher
    computes is billed.

    Args:
        session: the student, whose phase is to be trained with the loss.
        teacher: asked in evaluation mode; best a fork, trained.
        hardness: the teacher's share of the loss, in [0, 1].
        temperature: divides the logits of both.
    """

    def loss(outputs: Outputs, batch: Batch, index: int) -> tuple[Tensor, int]:
        total, count = session.task.loss(outputs, batch)
        told, own = _counted(teacher.outputs(batch)), _counted(outputs)
        if own.shape[-1] == 1:
            apart = F.mse_loss(own, told, reduction="sum")
        else:
            logs = [(logits / temperature).log_softmax(dim=-1) for logits in (told, own)]
            apart = temperature**2 * F.kl_div(logs[1], logs[0], reduction="sum", log_target=True)
        return (1 - hardness) * total + hardness * apart, count

    return loss


def smoothed(session: Session, share: float = 0.1) -> Loss:
    """The task's loss with labels smoothed towards all classes alike (Szegedy et al., 2016, arXiv:1512.00567, sec. 7).

    Classes that an example does not offer get no share, and a number is not smoothed.

    Args:
        session: whose phase is to be trained with the loss.
        share: of the uniform distribution, in [0, 1].
    """

    def loss(outputs: Outputs, batch: Batch, index: int) -> tuple[Tensor, int]:
        total, count = session.task.loss(outputs, batch)
        logits = _counted(outputs)
        if logits.shape[-1] == 1:
            return total, count
        offered = logits > torch.finfo(outputs.logits.dtype).min
        logs = logits.log_softmax(dim=-1).masked_fill(~offered, 0.0)
        return (1 - share) * total - share * (logs.sum(dim=-1) / offered.sum(dim=-1)).sum(), count

    return loss


def _counted(outputs: Outputs) -> Tensor:
    """The logits at the positions that count, a row each; of numbers, a column."""
    if outputs.logits.ndim == 0:
        raise UsageError(
            "on a network of your own only the loss is known, no logits: nothing can be distilled or smoothed; set "
            "hardness or smoothing to 0, and do it in the loss you give"
        )
    logits = outputs.logits if outputs.valid is None else outputs.logits[outputs.valid]
    return (logits if logits.ndim > 1 else logits[:, None]).float()
