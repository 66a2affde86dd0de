"""fairseq itself: its checkpoints converted there and back, our sparse models scored by its own classes.

These run where fairseq is installed: ``make fairseq`` makes an environment of its own for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smcbench import fairseq
from smcbench.cli import main
from smcbench.convert import (
    read_fairseq,
    read_transformers,
    to_fairseq,
    to_transformers,
    write_fairseq,
    write_transformers,
)  # fmt: skip
from smcbench.errors import InvalidInput
from smcbench.session import build_model
from smcbench.task import Task
from smcbench_tasks._text import Encoder
from smcbench_tasks.commonsense import csqa, race, winogrande
from smcbench_tasks.digits import digits
from smcbench_tasks.glue import cola, mnli
from smcbench_tasks.translation import cldr_2to2, mbart_2to2

pytestmark = [
    pytest.mark.fairseq,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of fairseq's old ways with hydra
    pytest.mark.skipif(
        importlib.util.find_spec("fairseq") is None,
        reason="needs fairseq, in an environment of its own: make fairseq",
    ),
]

ROBERTA = Encoder("roberta", 256, 32, 2, 2, 64, 130, dropout=0.0)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def tuned(task: Any) -> Task:
    """A tiny GLUE task on RoBERTa."""
    return dataclasses.replace(task.tiny(), encoder=ROBERTA)  # type: ignore[no-any-return]


TASKS: dict[str, Callable[[], Task]] = {
    "choices": csqa.tiny,
    "words": winogrande.tiny,
    "classes": lambda: tuned(mnli),
    "mbart": cldr_2to2.tiny,
}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Four fifths of each matrix zero; the weights keep the scale of activations, so that outputs differ widely."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim == 2:
                kept = torch.rand(parameter.shape, generator=draw) < 0.2
                parameter.copy_(noise * kept * (5 / parameter.shape[1]) ** 0.5)
            else:
                parameter.copy_(0.1 * noise + ("norm" in name.lower() and name.endswith("weight")))
    return model


def dictionary(size: int) -> Any:
    with fairseq.importable():
        from fairseq.data import Dictionary
    words = Dictionary()
    for token in range(len(words), size):
        words.add_symbol(f"word{token}")
    return words


def theirs(kind: str) -> tuple[Any, argparse.Namespace, Any]:
    """A model as fairseq's own task would build it, of the sizes of our tiny tasks; its arguments and fairseq task."""
    with fairseq.importable():
        from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
    if kind == "mbart":
        sizes = {"layers": 1, "embed_dim": 16, "ffn_embed_dim": 32, "attention_heads": 2,
                 "normalize_before": True, "learned_pos": True}  # fmt: skip
        both = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in sizes.items()}
        args = argparse.Namespace(arch="mbart_large", task="translation", max_source_positions=48,
                                  max_target_positions=48, **both)  # fmt: skip
    else:
        sizes = {"layers": 2, "embed_dim": 32, "ffn_embed_dim": 64, "attention_heads": 2}
        named = {f"encoder_{name}": size for name, size in sizes.items()}
        args = argparse.Namespace(arch="roberta_large", task="sentence_ranking", max_positions=128, **named)
    ARCH_CONFIG_REGISTRY[args.arch](args)
    words = dictionary(200 if kind == "mbart" else 256)
    task = SimpleNamespace(source_dictionary=words, target_dictionary=words)
    model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)
    if kind in ("choices", "classes"):
        model.register_classification_head("sentence_classification_head", {"choices": 1, "classes": 3}[kind])
    return randomised(model), args, task


def checkpoint(path: Path, model: Any, args: argparse.Namespace) -> Path:
    """As fairseq's trainer saves it."""
    with fairseq.importable():
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf
        from omegaconf import OmegaConf
    cfg = OmegaConf.to_container(convert_namespace_to_omegaconf(args), resolve=True, enum_to_str=True)
    history = [{"criterion_name": "X", "optimizer_name": "Y", "lr_scheduler_state": {"best": 0.5}, "num_updates": 3}]
    torch.save(
        {
            "args": None,
            "cfg": cfg,
            "model": model.state_dict(),
            "criterion": {},
            "optimizer_history": history,
            "task_state": {},
            "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, "val_loss": 1.5},
            "last_optimizer_state": None,
        },
        path,
    )
    return path


def tokens(size: int, seed: int, pad: int = 1) -> Tensor:
    """Four sequences of random tokens, padded at the end."""
    draw = torch.Generator().manual_seed(seed)
    made = torch.randint(4, size, (4, 11), generator=draw)
    for row, length in enumerate((11, 7, 3, 9)):
        made[row, length:] = pad
    return made


def outputs(kind: str, model: Any) -> Tensor:
    """What fairseq's own forward gives."""
    model.eval()
    with torch.no_grad():
        if kind == "mbart":
            source, target = tokens(200, 1), tokens(200, 2)
            return model(source, None, target)[0][target != 1]  # type: ignore[no-any-return]
        words = tokens(256, 1)
        if kind == "words":
            return model(words)[0][words != 1]  # type: ignore[no-any-return]
        return model(words, features_only=True, classification_head_name="sentence_classification_head")[0]  # type: ignore[no-any-return]


def our_outputs(kind: str, model: Any) -> Tensor:
    """The same of transformers' model; its translation task pads with 0 where fairseq pads with 1."""
    model.eval()
    with torch.no_grad():
        if kind == "mbart":
            places = torch.tensor([1, 0, *range(2, 200)])
            source, target = places[tokens(200, 1)], places[tokens(200, 2)]
            logits = model(input_ids=source, attention_mask=(source != 0).long(), decoder_input_ids=target).logits
            return logits[target != 0][:, places]  # type: ignore[no-any-return]
        words = tokens(256, 1)
        if kind == "choices":
            words = words[None]
        logits = model(input_ids=words, attention_mask=(words != 1).long()).logits
        return {"choices": lambda: logits.T, "classes": lambda: logits, "words": lambda: logits[words != 1]}[kind]()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", TASKS)
def test_a_checkpoint_of_fairseq_there_and_back(kind: str, tmp_path: Path) -> None:
    """Saved by fairseq, converted, run by transformers; converted back and loaded by fairseq's own loader."""
    with fairseq.importable():
        pass
    model, args, task = theirs(kind)
    path = checkpoint(tmp_path / "model.pt", model, args)
    expected = outputs(kind, fairseq.without_copies(model))
    assert expected.std() > 0.1

    ours = TASKS[kind]()
    converted = to_transformers(read_fairseq(path), ours)
    write_transformers(tmp_path / "model.safetensors", converted)
    assert converted.dropped["copies for the fast path"].tensors == 8 * (1 if kind == "mbart" else 2)
    assert converted.read == converted.written
    network = ours.architecture()
    assert not network.load_state_dict(read_transformers(tmp_path / "model.safetensors").tensors, strict=False)[1]
    torch.testing.assert_close(our_outputs(kind, network), expected, **TOLERANCE)

    back = to_fairseq(read_transformers(tmp_path / "model.safetensors"))
    assert back.read == back.written == converted.read
    write_fairseq(tmp_path / "back.pt", back)
    again = loaded(tmp_path / "back.pt", task)
    state = again.state_dict()
    without_words = kind in ("choices", "classes")  # of such a model, transformers' class has no language-model head
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor) or (without_words and "lm_head" in name), name
    torch.testing.assert_close(outputs(kind, again), expected, rtol=0, atol=0)


def loaded(path: Path, task: Any) -> Any:
    """By fairseq's own loader, strictly; the words are made up, where its own tasks ask for a folder of them."""
    with fairseq.importable():
        from fairseq import checkpoint_utils, models

    def build_model(cfg: Any, from_checkpoint: bool = False) -> Any:
        return models.build_model(cfg, task, from_checkpoint)

    with torch.serialization.safe_globals([argparse.Namespace]):
        (found,), _ = checkpoint_utils.load_model_ensemble(
            [str(path)], task=SimpleNamespace(build_model=build_model), strict=True
        )
    return fairseq.without_copies(found)


@pytest.mark.parametrize(
    "task",
    [csqa.tiny(), race.tiny(), winogrande.tiny(), tuned(cola), tuned(mnli), cldr_2to2.tiny(), mbart_2to2.tiny()],
    ids=lambda task: task.name,
)
def test_a_sparse_model_is_scored_by_fairseq_with_the_same_predictions(task: Task) -> None:
    model = randomised(build_model(task, 0))
    twin = fairseq.twin(model)
    assert {type(module).__module__.partition(".")[0] for module in twin.modules()} == {"smcbench", "fairseq", "torch"}
    ours, found = task.evaluate(model), task.evaluate(twin)
    assert found == ours
    assert len({str(prediction) for prediction in ours.predictions.values()}) > 1
    batch = task.collate(list(task.data("test")[:6]))
    model.eval(), twin.eval()
    with torch.no_grad():
        expected, logits = task.forward(model, batch), task.forward(twin, batch)
    where = expected.valid if expected.valid is not None else slice(None)
    assert expected.logits.std() > 0.05
    torch.testing.assert_close(logits.logits[where], expected.logits[where], **TOLERANCE)


def test_the_decoder_attends_to_padding_that_it_wrote_itself() -> None:
    """As transformers' does: token by token, against its pass over the whole."""
    model = randomised(build_model(cldr_2to2.tiny(), 0)).eval()
    twin = fairseq.twin(model).eval()
    source = tokens(200, 1, pad=0)
    mask, target = (source != 0).long(), tokens(200, 2, pad=0).flip(1)  # padding before the rest, as nothing asks for
    cache, columns = None, []
    with torch.no_grad():
        expected = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
        encoded = twin.get_encoder()(input_ids=source)
        for token in target.T:
            output = twin(attention_mask=mask, encoder_outputs=encoded, decoder_input_ids=token[:, None],
                          past_key_values=cache, use_cache=True)  # fmt: skip
            cache = output.past_key_values
            columns.append(output.logits)
    torch.testing.assert_close(torch.cat(columns, dim=1), expected, **TOLERANCE)


@pytest.mark.parametrize("task", [csqa.tiny(), winogrande.tiny(), cldr_2to2.tiny()], ids=lambda task: task.name)
def test_its_zeros_are_ours(task: Task) -> None:
    """Counted in fairseq's own parameters, none of which is there twice."""
    model = randomised(build_model(task, 0))
    network = fairseq.twin(model).network
    assert isinstance(network, nn.Module)

    def counted(module: nn.Module, leave: tuple[str, ...]) -> tuple[int, int]:
        some = [p for n, p in module.named_parameters() if not n.startswith(leave)]
        return sum(p.numel() for p in some), sum(int((p == 0).sum()) for p in some)

    added = ("encoder.lm_head.",) if task.name.startswith("csqa") else ("nothing",)
    assert counted(network, added) == counted(model, ("roberta.embeddings.token_type",))


def test_a_run_of_ours_scored_by_fairseq(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From training to the score, all on the command line."""
    path = tmp_path / "ours.py"
    path.write_text("from smcbench_tasks.commonsense import csqa\ntiny = csqa.tiny()\n")
    task = f"{path}:tiny"
    run = ["run", "--task", task, "--sparsifier", "omp-before", "--sparsity", "0.893", "--seeds", "1"]
    assert main([*run, "--out", str(tmp_path / "runs")]) == 0
    weights = next((tmp_path / "runs").glob("*/*omp-before-*/weights.safetensors"))
    record = json.loads((weights.parent / "record.json").read_text())
    capsys.readouterr()
    assert main(["eval", str(weights), "--task", task, "--fairseq", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"] == record["scores"]
    assert found["zeros"] == record["sparsity"]["denominators"]

    convert = ["convert", str(weights), "--from", "transformers", "--to", "fairseq", "--task", task, "--fold"]
    assert main([*convert, "--out", str(tmp_path / "folded.pt")]) == 0
    model = build_model(csqa.tiny(), 0)
    model.load_state_dict(read_transformers(weights).tensors, strict=False)
    network = loaded(tmp_path / "folded.pt", theirs("choices")[2])
    torch.testing.assert_close(outputs("choices", network), our_outputs("choices", model), **TOLERANCE)


def test_a_model_that_fairseq_has_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"fairseq has RoBERTa and mBART, but not this model"):
        fairseq.twin(digits.tiny().build_model())
    with pytest.raises(InvalidInput, match=r"neither a RoBERTa nor an mBART of transformers; it holds bert"):
        fairseq.twin(cola.tiny().build_model())


def test_importing_it_leaves_the_process_as_it_was() -> None:
    root = logging.getLogger()
    before = dataclasses.dataclass, root.level, list(root.handlers), root.manager.disable
    with fairseq.importable():
        import fairseq as library
    assert library.__version__ == "0.12.2"
    assert (dataclasses.dataclass, root.level, list(root.handlers), root.manager.disable) == before


@pytest.mark.slow
def test_published_sizes() -> None:
    """Parameters of the full networks, without the copies: 3.5 GB of memory, a minute."""
    with fairseq.importable():
        from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
    for arch, words, copied, real in (
        ("roberta_large", 50265, 657_622_105, 355_411_033),
        ("mbart_large", 250027, 761_953_280, 610_847_744),
    ):
        args, known = argparse.Namespace(arch=arch, max_positions=512), dictionary(words)
        ARCH_CONFIG_REGISTRY[arch](args)
        task = SimpleNamespace(source_dictionary=known, target_dictionary=known)
        model = ARCH_MODEL_REGISTRY[arch].build_model(args, task)
        assert sum(p.numel() for p in model.parameters()) == copied
        assert sum(p.numel() for p in fairseq.without_copies(model).parameters()) == real
        del model
