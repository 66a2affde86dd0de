"""Beam search beside transformers' ``generate`` in the order given, with the same beam and the same translations.

Needs the public parallel corpora (``SMCBENCH_DATA``). One process, one thread, in alternation; the ratio counts.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from typing import Any

import pytest
import torch

from smcbench import plugins
from smcbench.session import Session, build_model
from smcbench_tasks._beam import beam_search
from smcbench_tasks._evaluating import chunks

pytestmark = pytest.mark.skipif(
    not os.environ.get("SMCBENCH_DATA"), reason="needs the public parallel corpora; set SMCBENCH_DATA"
)
_STEPS = 120
"""Of training: sentences must come to an end."""
_SENTENCES, _LONGEST, _BEAMS, _BATCH, _ROUNDS = 160, 60, 5, 32, 3


def test_beam_search(benchmark: Any) -> None:
    """Goal: 1.25 x the sentences a second of ``generate``."""
    task = plugins.load_task("translation-2to2-small")
    session = Session(task, build_model(task, 0), task.recipe.replace(steps=_STEPS))
    session.train()
    model: Any = session.model.eval()
    with torch.no_grad():
        model.final_logits_bias[:, task.network.pad] = -torch.inf  # so that padding is the end of the peer's row
    known = {"en", *task.languages}
    pairs = [pair for pair in task.data("test") if {*pair.direction.split("-")} <= known][:_SENTENCES]
    special = {"pad": task.network.pad, "eos": task.network.eos}

    def ours() -> list[list[int]]:
        found: dict[str, list[int]] = {}
        for part in chunks(sorted(pairs, key=lambda pair: -len(pair.source_tokens)), _BATCH):
            batch = task.collate(part)
            limits = torch.full((len(part),), _LONGEST)
            rows = beam_search(model, batch["source"], batch["decoder"][:, :1], limits, _BEAMS, **special)
            found |= zip((pair.id for pair in part), rows, strict=True)
        return [found[pair.id] for pair in pairs]

    def peer() -> list[list[int]]:
        found = []
        for part in chunks(pairs, _BATCH):
            batch = task.collate(part)
            rows = model.generate(
                batch["source"],
                attention_mask=(batch["source"] != task.network.pad).long(),
                decoder_start_token_id=batch["decoder"][:, 0].tolist(),
                num_beams=_BEAMS,
                do_sample=False,
                early_stopping=True,
                max_new_tokens=_LONGEST,
            ).tolist()
            found += [list(itertools.takewhile(lambda token: token not in special.values(), row[1:])) for row in rows]
        return found

    times: dict[str, list[float]] = {"ours": [], "generate": []}
    answers = {}
    with torch.inference_mode():
        for turn in range(_ROUNDS + 1):
            for name, run in [("ours", ours), ("generate", peer)][:: 1 if turn % 2 else -1]:
                begin = time.perf_counter()
                answers[name] = run()
                times[name].append(time.perf_counter() - begin)
    seconds = {name: statistics.median(values[1:]) for name, values in times.items()}
    differ = sum(one != other for one, other in zip(answers["ours"], answers["generate"], strict=True))
    benchmark.extra_info |= {
        "sentences/s": round(len(pairs) / seconds["ours"], 1),
        "generate / ours": round(seconds["generate"] / seconds["ours"], 2),
        "differ": differ,
    }
    print("\n", benchmark.extra_info)
    assert differ <= len(pairs) // 50  # near ties: sums in another order
    benchmark.pedantic(lambda: None, rounds=1)
