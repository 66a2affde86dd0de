"""The two tasks that run on one core from what the dependencies carry: their data, and what they promise of scores."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections import Counter

import pytest
import torch

from smcbench.task import Task
from smcbench_tasks import _cldr, translation
from smcbench_tasks.digits import digits
from smcbench_tasks.translation import cldr_2to2

SPLITS = ("train", "validation", "test")
TINY = [pytest.param(task.tiny(), id=task.name) for task in (digits, cldr_2to2)]


def train(task: Task, seed: int = 0, steps: int | None = None) -> tuple[torch.nn.Module, list[float]]:
    torch.manual_seed(seed)
    model = task.build_model()
    optimizer = torch.optim.AdamW(task.parameter_groups(model), lr=1e-2)
    data, losses = task.data("train"), []
    for step in range(steps or task.recipe.steps):
        size = task.recipe.batch_size
        batch = task.collate([data[(step * size + i) % len(data)] for i in range(size)])
        total, count = task.loss(task.forward(model, batch), batch)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        losses.append(float(total.detach()) / count)
    return model, losses


@pytest.mark.parametrize("task", TINY)
def test_tiny_learns_and_uses_every_parameter(task):
    model, losses = train(task)
    assert sum(losses[-3:]) < sum(losses[:3])
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert task.prunable(model)


@pytest.mark.parametrize("task", TINY)
def test_the_seed_decides_the_weights(task):
    torch.manual_seed(3)
    one = task.build_model()
    torch.manual_seed(3)
    two = task.build_model()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("task", TINY)
def test_evaluate_is_pure_and_the_same_at_any_batch_size(task, split):
    model, _ = train(task)
    next(iter(model.children())).eval()
    weights = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    first = task.evaluate(model, split)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert task.evaluate(model, split, batch_size=1) == task.evaluate(model, split, batch_size=7) == first
    assert list(first.predictions) == [example.id for example in task.data(split)]
    assert 0 <= first.scores[task.metric.name] <= 100


@pytest.mark.parametrize("task", [digits, cldr_2to2, *TINY])
def test_ids_are_unique_over_all_splits(task):
    ids = [example.id for split in SPLITS for example in task.data(split)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("task", TINY)
def test_digest_is_stable_and_tells_tasks_apart(task):
    assert task.digest() == task.digest()
    assert len({digits.digest(), digits.tiny().digest(), cldr_2to2.digest(), cldr_2to2.tiny().digest()}) == 4


def test_digits_are_stratified_and_all_there():
    sizes = {split: len(digits.data(split)) for split in SPLITS}
    assert sizes == {"train": 1000, "validation": 197, "test": 600}
    for split in SPLITS:
        assert all(abs(n / sizes[split] - 0.1) < 0.01 for n in Counter(d.label for d in digits.data(split)).values())
    assert digits.data("test")[0].image.max() <= 1


def test_digits_ids_are_scikit_learns_indices():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for digit in digits.data("test")[:20]:
        index = int(digit.id.split("/")[1])
        assert digit.label == labels[index]
        assert (digit.image.flatten() * 16).tolist() == images[index].tolist()


def test_phrases_are_split_by_key_and_nothing_leaks():
    keys = {split: {pair.id.split("/", 2)[2] for pair in cldr_2to2.data(split)} for split in SPLITS}
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["validation"]
    assert not keys["validation"] & keys["test"]
    rendered = {split: {(p.direction, p.source) for p in cldr_2to2.data(split)} for split in SPLITS}
    assert not rendered["train"] & (rendered["test"] | rendered["validation"])
    assert len(rendered["test"]) == len(cldr_2to2.data("test"))
    assert {key.split("/")[0] for key in keys["test"]} == set(_cldr.KINDS)


def test_targets_are_in_their_language():
    for split in SPLITS:
        for pair in cldr_2to2.data(split):
            to = pair.direction.split("-")[1]
            assert bool(re.search("[а-яё]", pair.target)) == (to == "ru"), pair
            assert not re.search("[a-z]", pair.target) or to != "ru", pair
            assert pair.source != pair.target
            assert not re.search(r"\b(digital|duration|energy|length|mass|temperature|volume)-", pair.target), pair


def test_every_name_and_unit_is_translated():
    """A locale without an entry of its own would show the English one."""
    keys = [f"quantity/{n} {unit}/and" for unit in _cldr.UNITS for n in (1, 2, 5)]
    keys += [f"list/{code}/and" for code in _cldr.TERRITORIES]
    for key in keys:
        assert len({_cldr.render(key, language) for language in ("en", "fr", "ru")}) == 3, key


@pytest.mark.parametrize(
    ("key", "language", "text"),
    [
        ("date/2031-04-05/full", "en", "Saturday, April 5, 2031"),
        ("relative/-3 day/and", "ru", "3 дня назад"),
        ("quantity/1 mass-kilogram+5 volume-liter/or", "fr", "1 kilogramme ou 5 litres"),
        ("list/DE+JP+IT/and", "en", "Germany, Japan, and Italy"),
    ],
)
def test_rendering(key, language, text):
    assert _cldr.render(key, language) == text


def test_tokens_give_back_the_text_and_fit_the_model():
    for task in (cldr_2to2, cldr_2to2.tiny()):
        decode = task._corpus().tokenizer.decode
        for split in SPLITS:
            for pair in task.data(split):
                assert max(len(pair.source_tokens), len(pair.target_tokens)) <= task.positions
                assert split != "train" or decode(pair.target_tokens[1:-1]) == pair.target
        assert task._corpus().tokenizer.get_vocab_size() <= task.vocabulary


def test_corpus_is_the_same_in_every_process():
    code = (
        "from smcbench_tasks.translation import cldr_2to2 as t; from smcbench.files import digest; "
        "print(digest([list(p) for p in t.data('train')]))"
    )
    here = __import__("smcbench").files.digest([list(pair) for pair in cldr_2to2.data("train")])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here


def test_loss_is_a_sum_over_target_tokens():
    task = cldr_2to2.tiny()
    model = task.build_model()
    pairs = list(task.data("train")[:9])
    batch = task.collate(pairs)
    total, count = task.loss(task.forward(model, batch), batch)
    assert count == sum(len(pair.target_tokens) - 1 for pair in pairs)
    alone = 0.0
    for pair in pairs:
        batch = task.collate([pair])
        alone += task.loss(task.forward(model, batch), batch)[0].item()
    assert total.item() == pytest.approx(alone, rel=1e-5)


def test_scores_follow_from_the_predictions():
    from sacrebleu import corpus_bleu

    task = cldr_2to2.tiny()
    model, _ = train(task, steps=60)
    evaluation = task.evaluate(model, "test")
    each = []
    for direction in ("en-fr", "en-ru", "fr-en", "ru-en"):
        pairs = [pair for pair in task.data("test") if pair.id.startswith(f"cldr/{direction}/")]
        score = corpus_bleu([evaluation.predictions[p.id] for p in pairs], [[p.target for p in pairs]]).score
        assert evaluation.scores[f"bleu/{direction}"] == score
        each.append(score)
    assert evaluation.scores["bleu"] == pytest.approx(sum(each) / 4)


def test_perfect_predictions_score_exactly_100():
    pairs = cldr_2to2.data("test")
    assert set(translation._scores(pairs, {pair.id: pair.target for pair in pairs}).values()) == {100.0}


def test_greedy_decoding_agrees_with_transformers():
    task = cldr_2to2.tiny()
    model, _ = train(task, steps=60)
    pairs = list(task.data("test"))
    tokenizer = task._corpus().tokenizer
    predictions = task.evaluate(model).predictions
    for pair in pairs:
        written = model.generate(
            torch.tensor([pair.source_tokens]),
            decoder_start_token_id=pair.target_tokens[0],
            max_new_tokens=task.positions,
            num_beams=1,
            do_sample=False,
        )[0].tolist()
        ids = written[1:]
        assert tokenizer.decode(ids[: ids.index(1)] if 1 in ids else ids) == predictions[pair.id]
