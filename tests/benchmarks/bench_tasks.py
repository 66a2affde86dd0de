"""Evaluation of text tasks, text in, predictions out, beside transformers' Trainer and a plain loop; data preparation.

Needs the public data sets and MiniLM-L6 in local folders (``SMCBENCH_DATA``, ``SMCBENCH_MODELS``). One process, one
thread, in alternation; the ratios are what counts.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from smcbench import plugins
from smcbench.session import build_model
from smcbench_tasks import _images, _text

_BATCH = 32
pytestmark = pytest.mark.skipif(
    not os.environ.get("SMCBENCH_DATA") or not os.environ.get("SMCBENCH_MODELS"),
    reason="needs the public data sets and MiniLM-L6; set SMCBENCH_DATA and SMCBENCH_MODELS",
)


@pytest.mark.parametrize("name", ["sst-2-small", "rte-small"])
def test_evaluation(benchmark: Any, name: str, tmp_path: Path) -> None:
    """Goals: 2.5 x Trainer.predict, 1.5 x a plain loop with dynamic padding, with the same answers."""
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments
    from transformers.utils import logging

    logging.disable_progress_bar()
    task = plugins.load_task(name)
    task.data("test")
    model = build_model(task, 0).eval()
    checkpoint = _text.CHECKPOINTS[task.encoder.checkpoint]
    folder = checkpoint.folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    examples = list(task.corpus.read()["test"])
    texts = [list(part) for part in zip(*(example.texts[0] for example in examples), strict=True)]

    def ours() -> list[int]:
        tokens = _text.Tokens.of(checkpoint, task.encoder.kind)
        _text.pack(examples, tokens, task.pair, task.longest)  # what the cache would spare
        return list(task.evaluate(model, "test").predictions.values())

    def encoded() -> Any:
        return tokenizer(*texts, truncation=True, max_length=task.longest)

    def trainer() -> list[int]:
        words = encoded()
        rows = [{key: words[key][i] for key in words} for i in range(len(examples))]
        # Its batch size is its own default, 8; the plain loop has the usual 32.
        arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True)
        collator = DataCollatorWithPadding(tokenizer)
        predicted = Trainer(model, arguments, data_collator=collator).predict(rows)  # type: ignore[arg-type]
        return predicted.predictions.argmax(-1).tolist()  # type: ignore[union-attr]

    def plain() -> list[int]:
        words, found = encoded(), []
        with torch.no_grad():
            for start in range(0, len(examples), _BATCH):
                part = {key: words[key][start : start + _BATCH] for key in words}
                padded = tokenizer.pad(part, return_tensors="pt")
                found += model(**padded).logits.argmax(-1).tolist()
        return found

    medians, answers = _alternate({"ours": ours, "Trainer.predict": trainer, "plain loop": plain}, 4)
    assert answers["ours"] == answers["plain loop"]
    assert sum(a != b for a, b in zip(answers["ours"], answers["Trainer.predict"], strict=True)) <= 1  # a tie
    benchmark.extra_info |= {
        "examples/s": round(len(examples) / medians["ours"]),
        "Trainer.predict / ours": round(medians["Trainer.predict"] / medians["ours"], 2),
        "plain loop / ours": round(medians["plain loop"] / medians["ours"], 2),
    }
    print("\n", name, benchmark.extra_info)
    benchmark.pedantic(lambda: None, rounds=1)


def _alternate(runs: dict[str, Callable[[], list[int]]], rounds: int) -> tuple[dict[str, float], dict[str, list[int]]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    answers = {}
    for turn in range(rounds):
        for name, run in list(runs.items())[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            answers[name] = run()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in times.items()}, answers


def test_preparation(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds to read and prepare each small task, and to start from the cache. Goal of the latter: 3 s."""
    monkeypatch.setenv("SMCBENCH_CACHE", str(tmp_path))
    for name in sorted(plugins.installed("tasks")):
        task = plugins.load_task(name)
        if "-small" not in name or any(need.state() != "local" for need in task.requirements()):
            continue
        seconds = []
        for _ in range(2):
            _text._ready.cache_clear()
            _images._ready.cache_clear()
            begin = time.perf_counter()
            for split in ("train", "validation", "test"):
                task.data(split)
            seconds.append(round(time.perf_counter() - begin, 2))
        benchmark.extra_info[name] = seconds
        print(f"\n {name}: first {seconds[0]} s, from the cache {seconds[1]} s", end="")
    benchmark.pedantic(lambda: None, rounds=1)
