"""The real data that some tests need, and made-up data in upstream's formats for the others."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("SMCBENCH_DATA", "nowhere")) / "glue" / "CoLA").is_dir(),
    reason="needs the public data sets; set SMCBENCH_DATA",
)


def jsonl(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def tsv(path: Path, header: list[str] | None, rows: Iterable[Iterable[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [*([header] if header else []), *rows]
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))


def tar(path: Path, members: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, value in members.items():
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))


def csqa_rows(count: int, offset: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{offset + i:032x}",
            "answerKey": "ABCDE"[i % 5],
            "question": {
                "stem": f"What is thing {offset + i}?",
                "question_concept": "thing",
                "choices": [{"label": letter, "text": f"answer {letter} {i}"} for letter in "ABCDE"],
            },
        }
        for i in range(count)
    ]


def winogrande_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "qID": f"Q{i // 2}-{i % 2 + 1}",
            "sentence": f"Ann {i // 2} called Bob because _ was {'ill' if i % 2 else 'well'}.",
            "option1": f"Ann {i // 2}",
            "option2": f"Bob {i // 2}",
            "answer": str(1 + i % 2),
        }
        for i in range(count)
    ]


def race_members() -> dict[str, Any]:
    found = {}
    for split, passages in (("train", 6), ("dev", 2), ("test", 3)):
        for level in ("middle", "high"):
            for n in range(passages):
                found[f"RACE/{split}/{level}/{n}.txt"] = {
                    "id": f"{level}{n}.txt",
                    "article": f"Passage {split} {level}  {n}.\nIt rained.",
                    "questions": ["It   _  .", "What did it do?"],
                    "options": [["rained", "snowed", "sang", "slept"], ["a", "b", "c", "d"]],
                    "answers": ["A", "C"],
                }
    return found


def a_small_world(root: Path) -> None:
    """All text data sets in upstream's formats, with a few rows each."""
    for name, count in (("train_rand_split", 40), ("dev_rand_split", 10)):
        jsonl(root / "commonsense/commonsense_qa" / f"{name}.jsonl", csqa_rows(count, 0 if count == 40 else 100))
    for name in ("train_l", "train_xl", "dev"):
        jsonl(root / "commonsense/winogrande" / f"{name}.jsonl", winogrande_rows(40))
    tar(root / "commonsense/race/RACE.tar", race_members())
    pairs = {
        "MRPC": (["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
                 lambda i: [i % 2, i, i, f"one {i}", f"two {i}"]),
        "RTE": (["index", "sentence1", "sentence2", "label"],
                lambda i: [i, f"one {i}", f"two {i}", ("entailment", "not_entailment")[i % 2]]),
        "QNLI": (["index", "question", "sentence", "label"],
                 lambda i: [i, f"one {i}", f"two {i}", ("entailment", "not_entailment")[i % 2]]),
        "WNLI": (["index", "sentence1", "sentence2", "label"], lambda i: [i, f"one {i}", f"two {i}", i % 2]),
        "QQP": (["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
                lambda i: [i, i, i, f"one {i}", f"two {i}", i % 2]),
        "STS-B": (["index", "sentence1", "sentence2", "score"], lambda i: [i, f"one {i}", f"two {i}", f"{i % 6:.3f}"]),
        "SST-2": (["sentence", "label"], lambda i: [f"sentence {i} ", i % 2]),
        "CoLA": (None, lambda i: ["gj04", i % 2, "*" if i % 2 else "", f"Sentence {i}."]),
    }  # fmt: skip
    for name, (header, row) in pairs.items():
        for file, count, offset in (("train", 40, 0), ("dev", 12, 100)):
            tsv(root / "glue" / name / f"{file}.tsv", header, (row(offset + i) for i in range(count)))
    for file, offset in (("train", 0), ("dev_matched", 100), ("dev_mismatched", 200)):
        labels = ("entailment", "neutral", "contradiction")
        rows = ([i, f"premise {(offset + i) // 3}", f"hypothesis {offset + i}", labels[i % 3]] for i in range(42))
        tsv(root / "glue/MNLI" / f"{file}.tsv", ["index", "sentence1", "sentence2", "gold_label"], rows)
