"""Static sparse training: a mask that is given, and stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from smcbench import Mask, Session, Sparsifier, Task, files
from smcbench.errors import InvalidInput, UsageError
from smcbench.sparsity.distributions import count
from smcbench.state import read_tensors

from .random import RandomBefore


@dataclass(frozen=True)
class Static(Sparsifier):
    """Train the task's initial weights under one mask: that of a finished run, or a random ERK mask.

    The random mask is the "static" row of the papers on dynamic sparse training, and the same as ``random-before@erk``.
    """

    mask: str = ""
    """The ``mask.safetensors`` in the folder of a finished run; none: a random ERK mask."""

    paper: ClassVar[str] = "arXiv:1911.11134"
    category: ClassVar = ("before", "sparse-to-sparse", "static")
    cost: ClassVar[str] = "d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        if self.mask:
            session.mask = self.fitting(session.mask, sparsity)
            session.train()
        else:
            RandomBefore("erk").sparsify(session, sparsity)

    def fitting(self, own: Mask, sparsity: float) -> Mask:
        """The mask of the file, for a network that has the names and shapes of ``own``.

        Raises:
            UsageError: the file holds no mask, or not one for this network at this sparsity.
        """
        try:
            bits, meta = read_tensors(Path(self.mask))
            mask = Mask.unpack(bits, meta["shapes"])
        except (InvalidInput, UsageError, KeyError, TypeError):
            raise UsageError(f"{self.mask} holds no mask; name the mask.safetensors of a finished run") from None
        for name in {**own.shapes(), **mask.shapes()}:
            found, wanted = mask.shapes().get(name, "missing"), own.shapes().get(name, "missing")
            if found != wanted:
                raise UsageError(
                    f"the mask {self.mask} is of another network: {name!r} is {found} there and {wanted} here; "
                    "name the mask of a run on this task and scope"
                )
        if mask.kept != count(1 - sparsity, mask.total):
            raise UsageError(
                f"the mask {self.mask} keeps {mask.kept:,} of {mask.total:,} weights, which is sparsity "
                f"{mask.sparsity!r} and not {sparsity!r}; ask for that one, or name another mask"
            )
        return Mask({name: mask[name] for name in own})  # in the network's order, which the file does not keep

    def parameters(self) -> dict[str, Any]:
        return {"mask": Path(self.mask).name}  # where it lies says nothing; its contents are in the fingerprint

    def fingerprint(self) -> str | None:
        """The digest of the mask's file."""
        if not self.mask:
            return None
        try:
            return files.sha256(Path(self.mask).read_bytes())
        except OSError as error:
            raise UsageError(
                f"the mask {self.mask} cannot be read ({error.strerror}); name the mask.safetensors of a finished run"
            ) from None

    def skip(self, task: Task, sparsity: float) -> str | None:
        several = self.mask and len(task.parts) > 1
        return "its networks are several, and a mask file is read for one" if several else None
