"""RoBERTa and mBART from fairseq to transformers and back: a renaming that moves no bit of a weight.

Neither library is needed. What one of them lacks is dropped or added, and counted: fairseq 0.12 keeps a second copy of
every encoder layer for its fast path, its RoBERTa always has a language-model head and never a segment embedding.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from smcbench import files, naming
from smcbench.checkpoint import PICKLES, fill, plain, read
from smcbench.errors import InvalidInput, describe
from smcbench.naming import EMBEDDING, PAD, POSITIONS, SEGMENT, SIDES, Architecture, Head, Library, Pair
from smcbench.task import Task

CONFIG = "config.json"
"""Where transformers looks for the configuration of the tensors beside it."""
_COPIES = re.compile(r"\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$")
_NO_WEIGHT = re.compile(r"(^|\.)(version|_float_tensor|position_ids|token_type_ids)$")
_PUBLISHED = {("roberta", 768, 12): 12, ("roberta", 1024, 24): 16, ("mbart", 1024, 12, 12): 16}
"""Attention heads of the published models, by width and numbers of layers."""
_CLASSES: dict[Head | None, str] = {
    "words": "RobertaForMaskedLM",
    "choices": "RobertaForMultipleChoice",
    "classes": "RobertaForSequenceClassification",
    None: "MBartForConditionalGeneration",
}
"""transformers' own, by RoBERTa's head."""


@dataclass(frozen=True)
class Count:
    """Tensors, the parameters in them, and how many of those are zero."""

    tensors: int
    parameters: int
    zeros: int

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> Count:
        """Counted in the tensors themselves."""
        some = list(tensors)
        parameters = sum(tensor.numel() for tensor in some)
        return cls(len(some), parameters, parameters - sum(int(torch.count_nonzero(tensor)) for tensor in some))


@dataclass(frozen=True)
class Source:
    """A checkpoint as it was read: where from, its tensors, and the options that it tells of its model."""

    where: str
    tensors: Mapping[str, Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversion:
    """A model under its new names.

    Attributes:
        architecture: which of the two.
        head: of RoBERTa.
        tensors: by the target's names, tied ones once, with what was added.
        options: the model's, in the target's words: fairseq's ``args``, transformers' whole ``config``.
        assumed: numbers of attention heads that the source does not tell, by its words: those of the published model.
        read: what was carried over, as it was.
        written: the same, as it is now.
        dropped: what the target lacks.
        added: what the source lacks.
    """

    architecture: Architecture
    head: Head | None
    tensors: dict[str, Tensor]
    options: dict[str, Any]
    assumed: dict[str, int]
    read: Count
    written: Count
    dropped: dict[str, Count]
    added: dict[str, Count]


# -- both ways


def to_transformers(source: Source, task: Task | None = None) -> Conversion:
    """A fairseq model as ``RobertaForMaskedLM``, ``RobertaForMultipleChoice``, ``RobertaForSequenceClassification`` or
    ``MBartForConditionalGeneration``.

    A task decides the head and the padding token, and its model must be filled by the result. Without one, RoBERTa gets
    its fine-tuned head if it has one, which ranks choices if it gives one number; and mBART pads with 1, as in fairseq.

    Raises:
        InvalidInput: tensors are missing, left over or of the wrong shape, or the model is one of another kind.
    """
    if task is None:
        return _to_transformers(source, None, PAD)
    model: Any = task.architecture()
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in EMBEDDING:
        raise InvalidInput(f"{source.where}: {task.name} has a {type(model).__name__}, neither a RoBERTa nor an mBART")
    theirs, ours = (SIDES[config.model_type, library].heads for library in ("fairseq", "transformers"))
    heads = {their: getattr(config, our) for their, our in zip(theirs, ours, strict=True)}
    told = replace(source, options={**heads, **source.options})
    conversion = _to_transformers(told, _head(model.state_dict()), config.pad_token_id)
    fill(model, conversion.tensors, source.where, task.name)
    for key, expected in heads.items():  # other heads fit the same shapes
        if told.options[key] != expected:
            raise InvalidInput(
                f"{source.where}: not a checkpoint of {task.name}: {key} is {told.options[key]}, not {expected}"
            )
    return replace(conversion, options={**config.to_diff_dict(), **conversion.options})


def to_fairseq(source: Source, task: Task | None = None, *, fold: bool = False) -> Conversion:
    """A transformers model under the names of fairseq's ``RobertaModel`` or, for mBART, ``BARTModel``.

    Args:
        source: tensors by name, and the configuration as far as it is known.
        task: the one whose model it is: it knows its configuration.
        fold: add RoBERTa's segment embedding, which fairseq lacks, to every position. Outputs stay equal; zeros of the
            position embeddings do not.

    Raises:
        InvalidInput: tensors are missing, left over or of the wrong shape, the model is one of another kind, or has a
            segment embedding that is neither zero nor to be folded.
    """
    if task is not None:
        model: Any = task.architecture()
        fill(model, source.tensors, source.where, task.name)
        source = Source(source.where, model.state_dict(), model.config.to_dict() if hasattr(model, "config") else {})
    loose = _Loose(source, "transformers", plain(source.tensors))
    added: dict[str, dict[str, Tensor]] = {}
    head: Head | None = None
    if loose.architecture == "roberta":
        head, layers = _head(loose.tensors), {"encoder": loose.layers("roberta.encoder.layer.")}
        segment = loose.drop("segment embedding", SEGMENT.__eq__).get(SEGMENT)
        if head == "words":
            loose.drop("pooler", lambda name: name.startswith("roberta.pooler."))
        carried, sizes = loose.carry(naming.roberta(layers["encoder"], head), layers)
        if segment is not None and torch.count_nonzero(segment):
            if segment.shape != (1, sizes["width"]):
                raise InvalidInput(
                    f"{source.where}: {SEGMENT!r} has shape {tuple(segment.shape)}: fairseq's RoBERTa lacks segments, "
                    f"and only one, of shape (1, {sizes['width']}), can be folded"
                )
            if not fold:
                raise InvalidInput(
                    f"{source.where}: {SEGMENT!r} is not zero, and fairseq's RoBERTa lacks it; --fold adds it to every "
                    "position (outputs stay equal, zeros of the position embeddings do not)"
                )
            positions = carried[POSITIONS] = carried[POSITIONS].clone()
            positions[PAD + 1 :] += segment[0]  # the rows before are of no position
        if head != "words":
            shapes = {pair.fairseq: [sizes[size] for size in pair.shape] for pair in naming.word_head()}
            added["language-model head of zeros"] = {name: torch.zeros(shape) for name, shape in shapes.items()}
        args = {"arch": "roberta", "task": "masked_lm", "load_checkpoint_heads": True}
    else:
        layers = {part: loose.layers(f"model.{part}.layers.") for part in ("encoder", "decoder")}
        bias = loose.drop("bias of zeros", "final_logits_bias".__eq__)
        if any(torch.count_nonzero(each) for each in bias.values()):
            raise InvalidInput(f"{source.where}: 'final_logits_bias' is not zero, and fairseq's mBART lacks it")
        carried, sizes = loose.carry(naming.mbart(layers), layers)
        pad = source.options.get("pad_token_id", PAD)
        if not isinstance(pad, int) or not 0 <= pad < sizes["vocabulary"]:
            raise InvalidInput(f"{source.where}: pad_token_id is {pad!r}, no token of its {sizes['vocabulary']}")
        carried[EMBEDDING["mbart"]] = _exchanged(carried[EMBEDDING["mbart"]], pad)
        args = {"arch": "mbart_large", "task": "translation"}
    return loose.converted(head, carried, {**args, "data": "."}, added)  # the named architectures fill in the rest


def _to_transformers(source: Source, head: Head | None, pad: int) -> Conversion:
    loose = _Loose(source, "fairseq", _modern(source.tensors))
    loose.drop("copies for the fast path", _COPIES.search)
    architecture = loose.architecture
    if architecture == "roberta":
        head, name = _tuned(loose, head)
        other = "classification_heads." if head == "words" else "encoder.lm_head."
        loose.drop("head not asked for", lambda name: name.startswith(other))
        layers = {"encoder": loose.layers("encoder.sentence_encoder.layers.")}
        carried, sizes = loose.carry(naming.roberta(layers["encoder"], head, name), layers)
        added = {"segment embedding of zeros": {SEGMENT: torch.zeros(1, sizes["width"])}}
        more = {"type_vocab_size": 1, **({"num_labels": sizes["outputs"]} if head == "classes" else {})}
    else:
        head, more = None, {"pad_token_id": pad}
        for version in naming.VERSIONS["mbart"]:
            if not source.tensors.get(version, torch.empty(0)).ge(3).any():
                raise InvalidInput(
                    f"{source.where}: {version!r} is not 3: fairseq reads it without mBART's last normalisations"
                )
        layers = {part: loose.layers(f"{part}.layers.") for part in ("encoder", "decoder")}
        carried, sizes = loose.carry(naming.mbart(layers), layers)
        if sizes["encoder longest"] != sizes["decoder longest"]:
            raise InvalidInput(
                f"{source.where}: has positions for {sizes['encoder longest']} tokens in its encoder and for "
                f"{sizes['decoder longest']} in its decoder; transformers' mBART has as many in both"
            )
        carried["model.shared.weight"] = _exchanged(carried["model.shared.weight"], pad)
        added = {"bias of zeros": {"final_logits_bias": torch.zeros(1, sizes["vocabulary"])}}
    config = {"model_type": architecture, "architectures": [_CLASSES[head]], **more}
    return loose.converted(head, carried, config, added)


class _Loose:
    """The tensors of a checkpoint in one library's names, each to be carried over or dropped.

    Tied tensors are there once. What is no weight (buffers, versions) is not there.
    """

    def __init__(self, source: Source, library: Library, tensors: Mapping[str, Tensor]) -> None:
        self.where, self.library, self.tensors = source.where, library, dict(tensors)
        self.other: Library = "transformers" if library == "fairseq" else "fairseq"
        known: list[Architecture] = ["roberta", "mbart"]
        found = [each for each in known if any(n.startswith(SIDES[each, library].mark) for n in tensors)]
        if not found:
            some = ", ".join(sorted(tensors)[:3]) or "nothing"
            raise InvalidInput(f"{self.where}: neither a RoBERTa nor an mBART of {library}; it holds {some}")
        self.architecture = found[0]
        self._side, self._options = SIDES[found[0], library], source.options
        self._read, self._dropped = Count(0, 0, 0), dict[str, Count]()
        for name in [name for name in self.tensors if _NO_WEIGHT.search(name)]:
            del self.tensors[name]
        for name, home in self._side.tied.items():
            tensor = self.tensors.pop(name, None)
            if tensor is not None and not torch.equal(self.tensors.setdefault(home, tensor), tensor):
                raise InvalidInput(f"{self.where}: {name!r} and {home!r} differ, which the other library ties")
        for key, value in self._side.fixed.items():
            if self._options.get(key, value) != value:
                raise InvalidInput(f"{self.where}: {key} is {self._options[key]!r}; only {value!r} can be converted")

    def layers(self, prefix: str) -> int:
        """How many there are under a prefix."""
        return len({name.removeprefix(prefix).partition(".")[0] for name in self.tensors if name.startswith(prefix)})

    def heads(self) -> dict[str, int]:
        """The numbers of attention heads in the source's words; of a published model they need not be told."""
        width, found = self._sizes["width"], {}
        layers = (size for what, size in self._sizes.items() if what.endswith("layers"))
        published = _PUBLISHED.get((self.architecture, width, *layers))
        for key in self._side.heads:
            heads = self._options.get(key, published)
            if heads is None:
                raise InvalidInput(
                    f"{self.where}: does not tell its number of attention heads; name its task with --task, or put its "
                    "config.json beside it"
                )
            if not isinstance(heads, int) or heads < 1 or width % heads:
                raise InvalidInput(f"{self.where}: {key} is {heads!r}, which does not divide the width {width}")
            found[key] = heads
        return found

    def drop(self, what: str, match: Callable[[str], Any]) -> dict[str, Tensor]:
        """Leave behind what has a name that matches."""
        found = {name: self.tensors.pop(name) for name in list(self.tensors) if match(name)}
        if found:
            self._dropped[what] = Count.of(found.values())
        return found

    def carry(
        self, pairs: Iterable[Pair], layers: Mapping[str, int]
    ) -> tuple[dict[str, Tensor], dict[str, int]]:  # fmt: skip
        """Everything that is left under its other name, and the sizes by the names that shapes are given in."""
        names = {getattr(pair, self.library): pair for pair in pairs}
        if missing := [name for name in names if name not in self.tensors]:
            raise InvalidInput(
                f"{self.where}: {len(missing)} tensors of a {self.architecture} are missing, such as {missing[0]!r}"
            )
        if over := sorted(self.tensors.keys() - names.keys()):
            raise InvalidInput(
                f"{self.where}: {len(over)} tensors are no part of a {self.architecture}, such as {over[0]!r}"
            )
        sizes: dict[str, int] = {}
        for name, pair in names.items():
            shape = tuple(self.tensors[name].shape)
            right = len(shape) == len(pair.shape)
            right = right and all(sizes.setdefault(*each) == each[1] for each in zip(pair.shape, shape, strict=True))
            if not right:
                wanted = ", ".join(f"{size} {sizes[size]}" if size in sizes else size for size in pair.shape)
                raise InvalidInput(f"{self.where}: {name!r} has shape {shape}, it must be ({wanted})")
        sizes |= {f"{part} layers": count for part, count in layers.items()}
        positions = [what for what in sizes if what.endswith("positions")]
        sizes |= {what.replace("positions", "longest"): sizes[what] - PAD - 1 for what in positions}
        self._read, self._sizes = Count.of(self.tensors.values()), sizes
        return {getattr(pair, self.other): self.tensors[name] for name, pair in names.items()}, sizes

    def converted(
        self, head: Head | None, carried: Mapping[str, Tensor], more: Mapping[str, Any],
        added: Mapping[str, Mapping[str, Tensor]],
    ) -> Conversion:  # fmt: skip
        """The result, counted, with options that hold every size and some more."""
        side, heads = SIDES[self.architecture, self.other], self.heads()
        options = {**side.fixed, **dict(zip(side.heads, heads.values(), strict=True)), **more}
        new = {name: tensor for some in added.values() for name, tensor in some.items()}
        counts = {what: Count.of(some.values()) for what, some in added.items()}
        return Conversion(
            self.architecture,
            head,
            {**carried, **new},
            {**options, **{option: self._sizes[what] for option, what in side.sizes.items()}},
            {key: number for key, number in heads.items() if key not in self._options},
            self._read,
            Count.of(carried.values()),
            self._dropped,
            counts,
        )


def _head(tensors: Mapping[str, Tensor]) -> Head:
    """The head of a RoBERTa of transformers."""
    heads: dict[str, Head] = {"classifier.dense.weight": "classes", "classifier.weight": "choices"}
    return next((head for name, head in heads.items() if name in tensors), "words")


def _tuned(loose: _Loose, head: Head | None) -> tuple[Head, str]:
    """The head to take of a RoBERTa of fairseq, and the name of its fine-tuned one."""
    names = sorted({name.split(".")[1] for name in loose.tensors if name.startswith("classification_heads.")})
    if head == "words" or (head is None and not names):
        return "words", ""
    if len(names) != 1:
        raise InvalidInput(f"{loose.where}: must have one fine-tuned head; it has {', '.join(names) or 'none'}")
    projection = loose.tensors.get(f"classification_heads.{names[0]}.out_proj.weight")
    ranks = projection is not None and projection.shape[:1] == (1,)
    return head or ("choices" if ranks else "classes"), names[0]


def _modern(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of fairseq by the names of its last release."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(("decoder.sentence_encoder.", "decoder.lm_head.")):  # what RoBERTa's encoder was called
            name = "encoder." + name.removeprefix("decoder.")
        name = name.replace(".emb_layer_norm.", ".layernorm_embedding.")
        joined = re.fullmatch(r"(.*attn)\.in_proj_(weight|bias)", name)
        if joined is not None and tensor.ndim and len(tensor) % 3 == 0:
            for which, part in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{joined[1]}.{which}_proj.{joined[2]}"] = part.clone()
        else:
            found[name] = tensor
    return found


def exchange(vocabulary: int, pad: int) -> Tensor:
    """All tokens in order, but that a padding token and fairseq's, after which it numbers positions, change places.

    >>> exchange(4, pad=0)
    tensor([1, 0, 2, 3])
    """
    order = torch.arange(vocabulary)
    order[[pad, PAD]] = order[[PAD, pad]]
    return order


def _exchanged(embedding: Tensor, pad: int) -> Tensor:
    return embedding if pad == PAD else embedding[exchange(len(embedding), pad)]


# -- files


def read_fairseq(path: Path, *, trusted: bool = False) -> Source:
    """A ``.pt`` of fairseq: tensors, plain values and an ``argparse.Namespace``; anything else only if it is trusted.

    Raises:
        InvalidInput: no such file, a torn one, none of fairseq's, or one that holds more and is not trusted.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(8)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror}); name a .pt file of fairseq") from None
    if not begin.startswith(PICKLES):
        raise InvalidInput(f"{path}: not a .pt file of fairseq")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found: Any = torch.load(path, map_location="cpu", weights_only=not trusted)
    except (ImportError, AttributeError) as error:  # of a trusted file, whose classes are not here
        raise InvalidInput(f"{path}: cannot be read as a pickle ({describe(error)})") from None
    except Exception as error:
        if (what := re.search(r"GLOBAL (\S+)", str(error))) is None:
            why = "" if isinstance(error, pickle.UnpicklingError) else f" ({describe(error)})"  # there, it is advice
            raise InvalidInput(f"{path}: not a .pt file of fairseq, or torn or corrupt; fetch it again{why}") from None
        raise InvalidInput(
            f"{path}: is a pickle of more than tensors and options ({what[1]}), which can run code of whoever made "
            "it; say --trusted if you trust its origin"
        ) from None
    model = found.get("model") if isinstance(found, Mapping) else None
    if not isinstance(model, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in model.items()
    ):
        raise InvalidInput(f"{path}: not a checkpoint of fairseq: it holds no 'model' of tensors by name")
    args = found.get("args")
    if args is None and isinstance(found.get("cfg"), Mapping):
        args = found["cfg"].get("model")
    args = vars(args) if isinstance(args, argparse.Namespace) else args
    return Source(str(path), model, _by_name({} if args is None else args, f"{path}: its options"))


def read_transformers(path: Path, *, trusted: bool = False) -> Source:
    """Tensors by transformers' names, with the configuration that the file holds, or else the one beside it.

    Raises:
        InvalidInput: no such file, a pickle that is not trusted, or no checkpoint at all.
    """
    tensors = read(path, trust=trusted)
    with contextlib.suppress(SafetensorError), safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get("config")
        if told is not None:
            where = f"{path}: its configuration"
            return Source(str(path), tensors, _by_name(files.parse_json(told, where), where))
    beside = path.with_name(CONFIG)
    return Source(str(path), tensors, _by_name(files.read_json(beside), str(beside)) if beside.is_file() else {})


def _by_name(options: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(options, Mapping):
        raise InvalidInput(f"{where}: a {type(options).__name__}, where options must stand by name")
    return options


def write_transformers(path: Path, conversion: Conversion) -> Path | None:
    """A safetensors file, with the configuration in its metadata, and also beside it if none is there.

    With both, ``from_pretrained`` opens the folder of a ``model.safetensors``.

    Returns:
        The file of the configuration, if it was written.
    """
    tensors = {name: tensor.contiguous() for name, tensor in conversion.tensors.items()}
    files.write(path, save(tensors, {"format": "pt", "config": json.dumps(conversion.options, sort_keys=True)}))
    beside = path.with_name(CONFIG)
    if beside.exists():
        return None
    files.write(beside, json.dumps(conversion.options, indent=2, sort_keys=True) + "\n")
    return beside


def write_fairseq(path: Path, conversion: Conversion) -> None:
    """A ``.pt`` that fairseq loads: ``model``, ``args``, and the state of no optimizer."""
    buffer = io.BytesIO()
    history = {"criterion_name": "none", "optimizer_name": "none", "lr_scheduler_state": {}, "num_updates": 0}
    state = {
        "args": argparse.Namespace(**conversion.options),
        "model": fairseq_state(conversion),
        "optimizer_history": [history],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }
    torch.save(state, buffer)
    files.write(path, buffer.getvalue())


def fairseq_state(conversion: Conversion) -> dict[str, Tensor]:
    """All that fairseq's ``load_state_dict`` asks for: tied tensors by each of their names too, and versions."""
    tied = SIDES[conversion.architecture, "fairseq"].tied
    return {
        **conversion.tensors,
        **{name: conversion.tensors[home] for name, home in tied.items()},
        **{name: torch.tensor([3.0]) for name in naming.VERSIONS[conversion.architecture]},
    }
