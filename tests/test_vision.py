"""Images: the same examples by every path, what is done to batches, networks by their published sizes, wrong input."""

from __future__ import annotations

import dataclasses
import gzip
import io
import lzma
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from smcbench import sources
from smcbench.errors import InvalidInput
from smcbench.recipe import Recipe
from smcbench.session import Session, build_model
from smcbench.sources import Checkpoint, Contents
from smcbench.task import SPLITS
from smcbench.testing import task_checks
from smcbench_tasks import _augment, _datasets, _image_files, _images, _networks, vision
from smcbench_tasks._augment import Augmentation
from smcbench_tasks._image_files import Tree
from smcbench_tasks._images import Collection, collection
from smcbench_tasks._networks import BigResNet, Clip, MobileNet, ResNet, SmallResNet, SmallViT
from smcbench_tasks._pictures import Encoded
from smcbench_tasks.digits import digits

needs_images = pytest.mark.skipif(
    not (Path(os.environ.get("SMCBENCH_DATA", "nowhere")) / "vision" / "cifar10").is_dir(),
    reason="needs the public data sets; set SMCBENCH_DATA",
)

TINY = {task.tiny().name: task.tiny() for task in vision.TASKS}
TINY |= {
    task.tiny().name: task.tiny()
    for task in (vision.resnet50_imagenet.variant("fld"), vision.resnet50_cifar10.variant("linear"))
}


# -- made-up data in upstream's formats

PLAIN_SETS = {
    "mnist": ((28, 28, 1), 10, "image", "label"),
    "fashion-mnist": ((28, 28, 1), 10, "image", "label"),
    "cifar10": ((32, 32, 3), 10, "img", "label"),
    "cifar100": ((32, 32, 3), 100, "img", "fine_label"),
    "svhn": ((32, 32, 3), 10, "image", "label"),
}


def made_up(name: str, split: str) -> tuple[Any, Any]:
    shape, classes, *_ = PLAIN_SETS[name]
    draw = np.random.default_rng([ord(c) for c in name + split])
    count = {"train": 60, "test": 20}[split]
    return draw.integers(0, 256, (count, *shape), dtype=np.uint8), draw.integers(0, classes, count)


def idx_bytes(array: Any) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def npy_bytes(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write(name: str, root: Path) -> None:
    """A made-up data set where upstream's would lie."""
    import scipy.io

    folder = root / "vision" / name
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        pixels, labels = made_up(name, split)
        if name.endswith("mnist"):
            part = {"train": "train", "test": "t10k"}[split]
            (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(pixels[..., 0])))
            (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
        elif name == "svhn":
            upstream = np.where(labels == 0, 10, labels)[:, None]
            scipy.io.savemat(folder / f"{split}_32x32.mat", {"X": pixels.transpose(1, 2, 3, 0), "y": upstream})
        else:
            (folder / f"{split}_images.npy.xz").write_bytes(lzma.compress(npy_bytes(pixels)))
            (folder / f"{split}_labels.npy").write_bytes(npy_bytes(labels))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, and a cache of its own."""
    monkeypatch.setenv("SMCBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SMCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _images._ready.cache_clear()
    return tmp_path / "data"


def hub(monkeypatch: pytest.MonkeyPatch, tables: dict[str, Any]) -> None:
    """Let the hub have these splits, and no data lie here."""
    monkeypatch.delenv("SMCBENCH_DATA")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, split, revision: tables[split])
    _images._ready.cache_clear()


def table(pixels: Any, labels: Any, image: str = "image", label: str = "label") -> Any:
    pictures = [Image.fromarray(array[..., 0] if array.shape[2] == 1 else array) for array in pixels]
    made = datasets.Dataset.from_dict({image: pictures, label: [int(i) for i in labels]})
    return made.cast_column(image, datasets.Image())


def same(one: Any, other: Any) -> None:
    for split in SPLITS:
        assert len(one[split]) == len(other[split]) > 0
        for a, b in zip(one[split], other[split], strict=True):
            assert (a.id, a.label) == (b.id, b.label)
            assert np.array_equal(a.image, b.image)


# -- the contract


@pytest.mark.parametrize("name", [name for name in TINY if "@" in name])
def test_tiny_variants_of_variants_keep_the_contract_too(name: str) -> None:
    for check in task_checks(TINY[name]):
        check.run()


def test_every_task_has_one_of_few_tiny_variants() -> None:
    assert {task.tiny() for task in vision.TASKS} == {t for name, t in TINY.items() if "@" not in name}
    assert len(TINY) == 7
    assert len({task.name for task in vision.TASKS}) == len(vision.TASKS) == 21
    assert all(task == getattr(vision, task.name.replace("-", "_")) for task in vision.TASKS)


# -- the same examples by every path


@pytest.mark.parametrize("name", PLAIN_SETS)
def test_files_and_hub_give_the_same_examples(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(name, root)
    local, digest = collection(name).splits(), collection(name).digest()
    assert {split: len(local[split]) for split in SPLITS} == {"train": 54, "validation": 6, "test": 20}
    hub(monkeypatch, {split: table(*made_up(name, split), *PLAIN_SETS[name][2:]) for split in ("train", "test")})
    same(local, collection(name).splits())
    assert collection(name).digest() == digest


@pytest.mark.parametrize("name", PLAIN_SETS)
def test_examples_are_upstreams_in_upstreams_order(name: str, root: Path) -> None:
    write(name, root)
    splits = collection(name).splits()
    seen = []
    for split in SPLITS:
        upstream = "test" if split == "test" else "train"
        pixels, labels = made_up(name, upstream)
        numbers = [int(example.id.removeprefix(f"{name}/{upstream}/")) for example in splits[split]]
        assert numbers == sorted(numbers)
        for number, example in zip(numbers, splits[split], strict=True):
            assert np.array_equal(example.image, pixels[number])
            assert example.label == labels[number]
        seen += [example.id for example in splits[split]]
    assert len(set(seen)) == 80


def test_the_cache_is_mapped_used_and_follows_the_source(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("cifar10", root)
    first, digest = vision.cifar10_small.data("train")[0], vision.cifar10_small.digest()
    _images._ready.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(_image_files, "npy", lambda *_: pytest.fail("read again"))
        again = vision.cifar10_small.data("train")[0]
    assert isinstance(again.image, np.memmap)
    assert np.array_equal(again.image, first.image)
    assert vision.cifar10_small.digest() == digest
    pixels, _ = made_up("cifar10", "test")
    (root / "vision/cifar10/test_images.npy.xz").write_bytes(lzma.compress(npy_bytes(pixels // 2)))
    _images._ready.cache_clear()
    assert vision.cifar10_small.digest() != digest


def test_generated_and_bundled_collections_need_nothing(root: Path) -> None:
    for name in ("blobs", "digits"):
        assert collection(name).dataset is None
        assert {len(collection(name).splits()[split]) > 0 for split in SPLITS} == {True}
    assert not (root.parent / "cache").exists()


def test_digits_are_those_of_the_other_task() -> None:
    for split in SPLITS:
        ours = vision.digits_vit.data(split)
        assert [(e.id, e.label) for e in ours] == [(e.id, e.label) for e in digits.data(split)]
        pixels = vision.digits_vit.collate(list(ours))["image"].float() / 16
        assert torch.equal(pixels, torch.stack([e.image for e in digits.data(split)]))


@needs_images
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_real_images(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, classes, channel statistics; and what other people's readers say of the first test image."""
    monkeypatch.setenv("SMCBENCH_CACHE", str(tmp_path))
    _images._ready.cache_clear()
    splits = collection(name).splits()
    assert len(splits["test"]) == 10_000
    assert len(splits["validation"]) == min(1000, (len(splits["train"]) + len(splits["validation"])) // 10)
    assert set(splits["test"].labels) == set(range(collection(name).classes))
    pixels = np.stack([example.image for example in splits["train"][:2000]]) / 255
    assert pixels.mean(axis=(0, 1, 2)) == pytest.approx(collection(name).mean, abs=0.02)
    assert pixels.std(axis=(0, 1, 2)) == pytest.approx(collection(name).std, abs=0.02)
    first = {"mnist": 7, "fashion-mnist": 9, "cifar10": 9, "cifar100": 68}[name]
    assert splits["test"][0].label == first or name.startswith("cifar")
    if name == "cifar10":
        assert splits["test"][0].label == 9
        assert splits["test"][0].image[0, 0].tolist() == [248, 248, 247]


# -- folders of images


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def tree(folder: Path, split: str, classes: list[str], each: int = 8, side: int = 40) -> list[tuple[bytes, int]]:
    """A folder a class of made-up images; gives them as bytes with their labels."""
    draw = np.random.default_rng(len(split))
    found = []
    for label, name in enumerate(classes):
        (folder / split / name).mkdir(parents=True)
        for i in range(each):
            raw = png(draw.integers(0, 256, (side + label, side, 3), dtype=np.uint8))
            (folder / split / name / f"{name}_{i}.png").write_bytes(raw)
            found.append((raw, label))
    return found


def encoded_table(rows: list[tuple[bytes, int]], paths: list[str | None]) -> Any:
    images = [{"bytes": raw, "path": path} for (raw, _), path in zip(rows, paths, strict=True)]
    made = datasets.Dataset.from_dict({"image": images, "label": [label for _, label in rows]})
    return made.cast_column("image", datasets.Image())


def small_tree(side: int = 32) -> Collection:
    source = Tree.of("gtsrb", flat=True)
    read = _image_files.tree(source, (side, side, 3), ["00000", "00001", "00002"])
    return dataclasses.replace(collection("gtsrb"), classes=3, shape=(side, side, 3), read=read, dataset=source)


def test_trees_and_hub_give_the_same_examples_in_any_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {split: tree(root / "vision/gtsrb", split, ["00000", "00001", "00002"]) for split in ("train", "test")}
    one = small_tree()
    local, digest = one.splits(), one.digest()
    assert [example.label for example in local["test"]] == [0] * 8 + [1] * 8 + [2] * 8
    assert local["train"][0].image.shape == (32, 32, 3)
    assert {e.id for split in ("train", "validation") for e in local[split]} == {f"gtsrb/train/{i}" for i in range(24)}
    hub(monkeypatch, {split: encoded_table(some[::-1], [None] * len(some)) for split, some in rows.items()})
    same(local, small_tree().splits())
    assert small_tree().digest() == digest


def test_a_tree_is_local_once_its_folders_are_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Tree.of("imagenet", flat=False)
    assert source.state() == "missing"
    with pytest.raises(InvalidInput, match=r"data set imagenet is missing.*put train, val"):
        raise source.missing()
    tree(root / "imagenet", "train", ["n1"])
    assert source.state() == "missing"
    tree(root / "imagenet", "val", ["n1"])
    assert source.state() == "local"
    assert [(v.file, v.known, v.text) for v in source.verify()] == [
        ("train", False, "8 of 1,281,167 images"), ("val", False, "8 of 50,000 images"),
    ]  # fmt: skip
    before = source.fingerprint()
    (root / "imagenet/val/n1/n1_0.png").write_bytes(b"other")
    assert source.fingerprint() != before


def small_imagenet() -> Collection:
    source = Tree.of("imagenet", flat=False)
    read = _image_files.imagenet(source, 3)
    return dataclasses.replace(collection("imagenet"), classes=3, shape=(32, 32, 3), read=read, dataset=source)


WNIDS = ["n01440764", "n01443537", "n01484850"]


def test_imagenet_from_folders_and_from_the_hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {split: tree(root / "imagenet", split, WNIDS) for split in ("train", "val")}
    one = small_imagenet()
    local, digest = one.splits(), one.digest()
    assert {split: len(local[split]) for split in SPLITS} == {"train": 22, "validation": 2, "test": 24}
    assert local["test"][0].id == "imagenet/val/n01440764_0"
    assert isinstance(local["test"][0].image, Encoded)
    assert [example.label for example in local["test"]] == [0] * 8 + [1] * 8 + [2] * 8
    task = dataclasses.replace(vision.resnet50_imagenet, network=BigResNet().tiny())
    monkeypatch.setattr(vision.Images, "collection", one)
    batch = task.collate(list(local["test"]))
    assert batch["image"].shape == (24, 3, 32, 32)
    assert batch["label"].tolist() == local["test"].labels
    expected = _image_files.fitted(Image.open(io.BytesIO(rows["val"][9][0])), 32)
    assert np.array_equal(batch["image"][9].permute(1, 2, 0).numpy(), expected)

    def named(split: str) -> list[str | None]:
        return [f"{WNIDS[label]}_{i % 8}_{WNIDS[label]}.JPEG" for i, (_, label) in enumerate(rows[split])]

    tables = {}
    for split, theirs in (("train", "train"), ("val", "validation")):
        order, names = np.random.default_rng(0).permutation(24), named(split)
        tables[theirs] = encoded_table([rows[split][i] for i in order], [names[i] for i in order])
    hub(monkeypatch, tables)
    remote = small_imagenet()
    assert remote.digest() == digest
    for split in SPLITS:
        ours, theirs = task.collate(list(local[split])), task.collate(list(remote.splits()[split]))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_without_pillow_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InvalidInput, match=r"needs Pillow, which is not installed; install it with: pip install"):
        _image_files.decoded([Encoded("x.png", lambda: b"")], 8)


@pytest.mark.parametrize("size", [(32, 32), (32, 70), (71, 33), (10, 12), (500, 375)])
def test_fitted_scales_the_shorter_side_and_keeps_the_middle(size: tuple[int, int]) -> None:
    """Against the recipe spelled out on the whole image; its aspect ratio is kept to a pixel."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    found = _image_files.fitted(picture, 32)
    assert found.shape == (32, 32, 3)
    factor = 32 / min(size)
    large = (int(size[0] * factor), int(size[1] * factor)) if min(size) != 32 else size
    whole = np.asarray(picture.resize(large, Image.Resampling.BICUBIC)) if min(size) != 32 else np.asarray(picture)
    top, left = (whole.shape[0] - 32 + 1) // 2, (whole.shape[1] - 32 + 1) // 2
    corners = [(y, x) for y in (top, top - 1, 0) for x in (left, left - 1, 0) if min(y, x) >= 0]
    assert any(np.array_equal(whole[y : y + 32, x : x + 32], found) for y, x in corners)


# -- wrong input


def spoiled(root: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    path = root / "vision" / file
    pack, unpack = {".gz": (gzip.compress, gzip.decompress), ".xz": (lzma.compress, lzma.decompress)}.get(
        path.suffix, (bytes, bytes)
    )
    path.write_bytes(pack(change(unpack(path.read_bytes()))))


WRONG: list[tuple[str, str, Callable[[bytes], bytes], str]] = [
    ("mnist", "train-images-idx3-ubyte.gz", lambda b: b"\0\0\x0d\3" + b[4:], r"is no IDX file of bytes in 3 dim"),
    ("mnist", "train-images-idx3-ubyte.gz", lambda b: b[:10], r"is no IDX file of bytes in 3 dimensions"),
    ("mnist", "train-images-idx3-ubyte.gz", lambda b: b[:-1], r"must hold 60 x 28 x 28 bytes, but has 47,039"),
    ("mnist", "train-images-idx3-ubyte.gz", lambda b: b[:4] + bytes([0, 0, 0, 59]) + b[8:], r"must hold 59 x 28 x 28"),
    ("mnist", "t10k-labels-idx1-ubyte.gz", lambda b: b[:4] + (19).to_bytes(4, "big") + b[8:-1],
     r"has 20 images, but 19 labels"),
    ("mnist", "t10k-labels-idx1-ubyte.gz", lambda b: b[:-1] + b"\x0a", r"image 19 has the label 10"),
    ("mnist", "t10k-images-idx3-ubyte.gz", lambda b: idx_bytes(np.zeros((0, 28, 28))), r"holds no images"),
    ("mnist", "t10k-images-idx3-ubyte.gz", lambda b: idx_bytes(np.zeros((20, 27, 28))), r"must be 28 x 28 x 1 bytes"),
    ("mnist", "train-images-idx3-ubyte.gz", lambda b: idx_bytes(np.zeros((3, 28, 28))), r"60 labels"),
    ("cifar10", "train_images.npy.xz", lambda b: b[:-5], r"is no whole NumPy file"),
    ("cifar10", "train_images.npy.xz", lambda b: b"", r"is no whole NumPy file"),
    ("cifar10", "train_images.npy.xz", lambda b: npy_bytes(np.zeros((60, 32, 32, 3))), r"not 32 x 32 x 3 float64"),
    ("cifar10", "train_labels.npy", lambda b: npy_bytes(np.full(60, -1)), r"image 0 has the label -1.*classes 0 to 9"),
    ("cifar10", "train_labels.npy", lambda b: npy_bytes(np.zeros((60, 2), int)), r"has 60 images, but 120 labels"),
    ("cifar10", "train_labels.npy", lambda b: npy_bytes(np.zeros(60)), r"labels must be whole numbers, not float64"),
    ("cifar10", "train_labels.npy", lambda b: npy_bytes(np.asarray([{}] * 60)), r"is no whole NumPy file"),
    ("svhn", "train_32x32.mat", lambda b: b[:300], r"is no MATLAB file with images X and labels y"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "change", "message"), WRONG)
def test_wrong_files_are_one_line_and_leave_no_cache(
    name: str, file: str, change: Callable[[bytes], bytes], message: str, root: Path
) -> None:
    write(name, root)
    spoiled(root, f"{name}/{file}", change)
    with pytest.raises(InvalidInput, match=message) as caught:
        collection(name).splits()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(root / "vision" / name))
    assert not list((root.parent / "cache").glob("**/*.npy"))


@pytest.mark.parametrize(("name", "file"), [("mnist", "train-images-idx3-ubyte.gz"), ("cifar10", "test_images.npy.xz")])
def test_a_torn_archive(name: str, file: str, root: Path) -> None:
    write(name, root)
    path = root / "vision" / name / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match=rf"{file}: a torn archive"):
        collection(name).splits()
    assert not list((root.parent / "cache").glob("**/*.npy"))


def test_too_few_images_to_validate(root: Path) -> None:
    write("cifar10", root)
    for file, size in (("train_images.npy.xz", (9, 32, 32, 3)), ("train_labels.npy", (9,))):
        spoiled(root, f"cifar10/{file}", lambda _, size=size: npy_bytes(np.zeros(size, np.uint8)))  # type: ignore[misc]
    with pytest.raises(InvalidInput, match="9 training images are too few"):
        collection("cifar10").splits()


def test_wrong_rows_of_the_hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = made_up("cifar10", "train")
    good = table(pixels, labels, "img")
    for bad, message in (
        (table(pixels[:, :31], labels, "img"), r"uoft-cs/cifar10@0b271498 train row 0: an image of 31 x 32 x 3"),
        (good.rename_column("img", "picture"), r"train row 0: has no column 'img'"),
        (good.remove_columns("img").add_column("img", ["x"] * 60), r"train row 0: 'img' is a str, not an image"),
        (table(pixels, labels + 1, "img"), r"has the label 10"),
        (good.select([]), r"holds no images"),
        (good.remove_columns("label").add_column("label", ["a"] * 60), r"'label' is 'a', it must be a whole number"),
    ):
        with monkeypatch.context() as patched:
            hub(patched, {"train": bad, "test": good})
            with pytest.raises(InvalidInput, match=message):
                collection("cifar10").splits()
    assert not list((root.parent / "cache").glob("**/*.npy"))


def test_missing_data_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for task in (vision.mnist_small, vision.clip_cars, vision.resnet50_imagenet):
        with pytest.raises(InvalidInput, match=r"data set .* is missing.*SMCBENCH_DATA|is missing.*put") as caught:
            task.data("train")
        assert "\n" not in str(caught.value)


def test_wrong_trees(root: Path) -> None:
    folder = root / "vision/gtsrb"
    tree(folder, "test", ["00000"])
    tree(folder, "train", ["00000", "00043"])
    with pytest.raises(InvalidInput, match=r"00043: is no class of vision/gtsrb"):
        small_tree().splits()
    shutil.rmtree(folder / "train/00043")
    (folder / "train/00001").mkdir()
    with pytest.raises(InvalidInput, match=r"train/00001: holds no images"):
        small_tree().splits()
    (folder / "train/00001/a.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    with pytest.raises(InvalidInput, match=r"train/00001/a.png: is no image that can be read"):
        small_tree().splits()
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    with pytest.raises(InvalidInput, match=r"train: holds no folders of images"):
        small_tree().splits()
    assert not list((root.parent / "cache").glob("**/*.npy"))


def test_an_imagenet_of_another_number_of_classes(root: Path) -> None:
    tree(root / "imagenet", "train", WNIDS[:2])
    tree(root / "imagenet", "val", WNIDS)
    with pytest.raises(InvalidInput, match=r"imagenet/train: has 2 folders of classes, it must have 3"):
        small_imagenet().splits()


def test_the_parser_of_idx_files() -> None:
    """Against bytes written out by hand."""
    raw = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30, 40, 50, 60])
    assert _image_files.idx(Contents("here", raw), 3).tolist() == [[[10, 20, 30]], [[40, 50, 60]]]
    assert _image_files.idx(Contents("here", bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])), 1).tolist() == [7, 9]


# -- what is done to batches


def numbers(count: int = 6, channels: int = 3, height: int = 9, width: int = 7) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def test_shifts_and_flips_are_those_of_a_loop_over_images() -> None:
    images = numbers()
    down, right = torch.tensor([0, 1, 2, 3, 4, 2]), torch.tensor([4, 3, 2, 1, 0, 0])
    found = _augment.shifted(images, down, right, 2)
    for i, image in enumerate(images.numpy()):
        padded = np.zeros((3, 13, 11), np.float32)
        padded[:, 2:-2, 2:-2] = image
        assert np.array_equal(found[i].numpy(), padded[:, down[i] : down[i] + 9, right[i] : right[i] + 7])
    assert torch.equal(found[2], images[2])
    which = torch.tensor([True, False] * 3)
    mirrored = _augment.flipped(images, which)
    for i, image in enumerate(images.numpy()):
        assert np.array_equal(mirrored[i].numpy(), image[:, :, ::-1] if which[i] else image)


def test_crops_are_those_of_a_loop_over_images() -> None:
    images = numbers(height=16, width=16)
    boxes = torch.tensor([[0.0, 0, 16, 16], [3, 2, 8, 8], [0, 8, 8, 8], [8, 0, 8, 8], [4, 4, 4, 8], [1, 1, 12, 10]])
    found = _augment.crops(images, boxes, 8)
    for i, (top, left, high, wide) in enumerate(boxes.int().tolist()):
        part = images[i, :, top : top + high, left : left + wide].numpy()
        expected = np.zeros((3, 8, 8))
        for row in range(8):
            for column in range(8):
                y, x = top + (row + 0.5) * high / 8 - 0.5, left + (column + 0.5) * wide / 8 - 0.5
                y, x = min(max(y, 0), 15), min(max(x, 0), 15)
                y0, x0 = min(int(y), 14), min(int(x), 14)
                fy, fx = y - y0, x - x0
                corner = images[i, :, y0 : y0 + 2, x0 : x0 + 2].numpy()
                expected[:, row, column] = (
                    corner[:, 0, 0] * (1 - fy) * (1 - fx) + corner[:, 0, 1] * (1 - fy) * fx
                    + corner[:, 1, 0] * fy * (1 - fx) + corner[:, 1, 1] * fy * fx
                )  # fmt: skip
        assert found[i].numpy() == pytest.approx(expected, abs=1e-5)
        if (high, wide) == (8, 8):
            assert found[i].numpy() == pytest.approx(part, abs=1e-5)


def test_half_precision_leaves_images_alone() -> None:
    """Autocast must not reach what happens to them before the network."""
    image = (255 * numbers(4, 3, 256, 256)).to(torch.uint8)
    for task in (vision.resnet50_imagenet, vision.clip_cars, vision.resnet50_mnist, vision.cifar10_small):
        torch.manual_seed(0)
        expected = task.seen(image, True)
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            found = task.seen(image, True)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_boxes_lie_in_the_image_and_keep_their_area() -> None:
    torch.manual_seed(0)
    top, left, high, wide = _augment.boxes(5000, 200, 100, 0.08).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + high <= 200 + 1e-3).all()
    assert (left + wide <= 100 + 1e-3).all()
    inside = (high < 200) & (wide < 100)
    area = (high * wide / 20000)[inside]
    assert 0.0799 <= area.min() < 0.09
    assert area.max() <= 1.0
    ratio = (wide / high)[inside]
    assert 3 / 4 - 1e-3 <= ratio.min() < 0.76
    assert 1.32 < ratio.max() <= 4 / 3 + 1e-3
    whole = _augment.boxes(100, 64, 64, 0.5)
    assert (whole[:, 2] * whole[:, 3] / 64**2 >= 0.5 * 0.74).all()


def test_scaling_is_pillows() -> None:
    """To a rounding; Pillow rounds between rows and columns too, and there cuts off what leaves the range of bytes."""
    picture = np.random.default_rng(0).integers(80, 170, (32, 32, 3), dtype=np.uint8)
    for side in (224, 50, 20):
        expected = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), dtype=float)
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        found = _augment.resized(image, side)[0].permute(1, 2, 0).numpy() * 255
        assert np.abs(found - expected).max() < 1.25


def test_the_middle() -> None:
    images = numbers(height=9, width=8)
    assert torch.equal(_augment.middle(images, 4), images[:, :, 2:6, 2:6])
    assert torch.equal(Augmentation()(images, None), images)
    assert torch.equal(Augmentation()(images, 4), images[:, :, 2:6, 2:6])


def test_only_training_is_augmented_and_a_seed_repeats_it() -> None:
    task = vision.cifar10_small.tiny()
    assert task.augmentation.flip
    bytes_ = task.collate(list(task.data("train")[:8]))["image"]
    assert bytes_.dtype == torch.uint8

    def seen(seed: int, training: bool = True) -> torch.Tensor:
        torch.manual_seed(seed)
        return task.seen(bytes_, training)

    assert torch.equal(seen(0), seen(0))
    assert not torch.equal(seen(0), seen(1))
    assert torch.equal(seen(0, False), seen(1, False))
    plain = (bytes_.double() / 255 - 0.5) / 0.25
    assert torch.allclose(seen(0, False).double(), plain, atol=1e-5)


def test_what_a_shift_brings_in_is_black() -> None:
    task = vision.mnist_small
    grey = torch.full((64, 1, 28, 28), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    assert task.seen(grey, True).unique().tolist() == pytest.approx([-0.1307 / 0.3081, (1 - 0.1307) / 0.3081])


@pytest.mark.parametrize("task", [vision.clip_mnist, vision.clip_cifar10, vision.resnet50_mnist], ids=lambda t: t.name)
@pytest.mark.parametrize("training", [True, False])
def test_big_networks_see_colour_at_their_size(task: vision.Images, training: bool) -> None:
    height, width, channels = task.collection.shape
    image = torch.full((2, channels, height, width), 51, dtype=torch.uint8)
    seen = task.seen(image, training)
    assert seen.shape == (2, 3, 224, 224)
    mean, std = task.network.normal or ((), ())
    for channel in range(3):
        assert seen[:, channel].unique() == pytest.approx((0.2 - mean[channel]) / std[channel], abs=1e-4)


# -- networks


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def on_meta(task: vision.Images) -> nn.Module:
    with torch.device("meta"):
        return task.architecture()


def test_full_networks_have_their_published_sizes() -> None:
    clip = on_meta(vision.clip_cifar10)
    assert count(clip.get_submodule("vision_model")) == 87_456_000
    assert count(clip.get_submodule("visual_projection")) == 393_216 == 768 * 512
    assert count(clip) == 87_456_000 + 393_216
    assert count(on_meta(vision.resnet50_imagenet)) == 25_557_032
    assert count(on_meta(vision.mobilenetv2_imagenet)) == 3_504_872
    assert count(on_meta(vision.resnet50_cifar100)) == 25_557_032 - 900 * 2049
    with torch.device("meta"):
        google = MobileNet().build(dataclasses.replace(collection("imagenet"), classes=1001))
    assert count(google) == 3_506_153 == 3_504_872 + 1280 + 1


def test_the_encoder_of_clip_is_attention_and_mlp_of_twelve_blocks() -> None:
    task, model = vision.clip_cifar10, on_meta(vision.clip_cifar10)
    names = task.prunable(model)
    assert len(names) == 12 * 6
    assert all(".self_attn." in name or ".mlp." in name for name in names)
    parameters = dict(model.named_parameters())
    assert sum(parameters[name].numel() for name in names) == 12 * (4 * 768**2 + 2 * 768 * 3072)


def test_resnet_20_by_hand() -> None:
    def expected(channels: int, classes: int) -> int:
        layers = [(channels, 16), *[(16, 16)] * 6, (16, 32), *[(32, 32)] * 5, (32, 64), *[(64, 64)] * 5]
        assert len(layers) + 1 == 20
        return sum(9 * i * o + 2 * o for i, o in layers) + 64 * classes + classes

    assert count(vision.cifar10_small.build_model()) == expected(3, 10) == 269_722
    assert count(vision.mnist_small.build_model()) == expected(1, 10) == 269_434
    assert count(vision.cifar100_small.build_model()) == expected(3, 100) == 275_572


def test_resnet_20_against_a_plain_loop_of_its_layers() -> None:
    torch.manual_seed(0)
    model = vision.cifar10_small.build_model().eval()
    assert isinstance(model, ResNet)
    image = torch.randn(2, 3, 32, 32)
    x, stem = image, model.stem
    x = F.relu(stem[1](F.conv2d(x, stem[0].weight, padding=1)))
    shapes = []
    for block in model.blocks:
        stride = block.conv1.stride[0]
        y = F.relu(block.norm1(F.conv2d(x, block.conv1.weight, stride=stride, padding=1)))
        y = block.norm2(F.conv2d(y, block.conv2.weight, padding=1))
        skip = torch.zeros_like(y)
        skip[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
        x = F.relu(y + skip)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3
    assert torch.allclose(model(image), model.head(x.flatten(2).mean(dim=2)), atol=1e-5)


def test_small_transformers_by_hand() -> None:
    def expected(tokens: int, pixels: int, width: int, layers: int, inner: int, classes: int) -> int:
        block = 4 * (width * width + width) + 2 * width * inner + width + inner + 4 * width
        return pixels * width + width + (tokens + 2) * width + layers * block + 2 * width + (width + 1) * classes

    assert count(vision.cifar10_small_vit.build_model()) == expected(64, 48, 128, 6, 256, 10) == 811_146
    assert count(vision.mnist_small_vit.build_model()) == expected(49, 16, 128, 6, 256, 10) == 805_130
    net = vision.digits_vit.network
    assert isinstance(net, SmallViT)
    assert count(vision.digits_vit.build_model()) == expected(16, 4, net.width, net.layers, net.inner, 10)


def test_cosines_of_clip_are_never_rounded() -> None:
    model = build_model(vision.clip_cars.tiny(), 0)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(4, 3, 16, 16))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


def test_mobilenet_is_made_for_torch() -> None:
    model = on_meta(vision.mobilenetv2_imagenet)
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.2]


@pytest.mark.parametrize("network", [SmallResNet().tiny(), SmallViT().tiny(), MobileNet().tiny(), BigResNet().tiny()])
def test_no_parameter_goes_unused(network: _networks.Network) -> None:
    task = dataclasses.replace(vision.cifar10_small.tiny(), network=network)
    model = build_model(task, 0)
    batch = task.collate(list(task.data("train")[:32]))
    task.loss(task.forward(model, batch), batch)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_scopes_and_variants() -> None:
    task = vision.resnet50_imagenet
    model = on_meta(task)
    every, inner = task.prunable(model), task.variant("fld").prunable(model)
    assert [*every[:1], *inner, *every[-1:]] == every
    assert "embedder" in every[0]
    assert every[-1] == "classifier.1.weight"
    assert task.variant("encoder").prunable(model) == every[:-1]
    assert set(task.variants) == {"fld", "encoder"}
    assert set(vision.clip_cars.variants) == {"all", "fld"}
    assert set(vision.resnet50_mnist.variants) == {"fld", "encoder", "scratch", "linear"}
    assert not vision.resnet50_mnist.variant("scratch").pretrained
    assert vision.resnet50_mnist.pretrained
    assert vision.resnet50_imagenet.smoothing == 0.1


# -- training the head alone


def test_linear_trains_the_head_and_nothing_else() -> None:
    task = vision.resnet50_cifar10.variant("linear").tiny()
    session = Session(task, build_model(task, 0), task.recipe)
    before = {name: t.clone() for name, t in session.model.state_dict().items()}
    session.prune({name: w.detach().abs() for name, w in session.weights.items()}, density=0.5)
    mask = dict(session.mask.items())
    session.train()
    session.recalibrate(2)
    trained = set()
    for name, after in session.model.state_dict().items():
        expected = before[name] * mask[name] if name in mask else before[name]
        if not torch.equal(after, expected):
            trained.add(name)
    assert trained == {"classifier.1.weight", "classifier.1.bias"}
    assert all(p.requires_grad for p in session.model.parameters())
    gradients = session.gradients()
    assert all(gradients[name].abs().sum() > 0 for name in session.weights)


def test_linear_leaves_zero_what_is_grown_again() -> None:
    """As its documentation says: what came back has no way to become other than zero."""
    task = vision.resnet50_cifar10.variant("linear").tiny()
    session = Session(task, build_model(task, 0), task.recipe)
    session.prune({n: w.detach().abs() for n, w in session.weights.items()}, density=0.5)
    pruned = {name: ~mask for name, mask in session.mask.items() if not name.startswith("classifier")}
    session.mask = type(session.mask).dense(session.weights)
    session.train()
    assert sum(int(gone.sum()) for gone in pruned.values()) > 100
    assert not any(session.weights[name][gone].any() for name, gone in pruned.items())


# -- checkpoints


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMCBENCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SMCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "models/some/net").mkdir(parents=True)
    (tmp_path / "models/some/net/config.json").write_text("{}")
    return tmp_path / "models/some/net"


def known(monkeypatch: pytest.MonkeyPatch, *weights: str) -> None:
    checkpoint = Checkpoint("some/net", "0" * 40, "MIT", weights=weights or ("model.safetensors",))
    monkeypatch.setitem(_networks.CHECKPOINTS, "some/net", checkpoint)


def test_resnet_starts_from_a_checkpoint_but_for_its_head(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)
    network = BigResNet(8, (16, 32), (1, 1), 12, "some/net")
    torch.manual_seed(1)
    source = network.random().build(collection("imagenet"))
    save_file(source.state_dict(), models / "model.safetensors")
    torch.manual_seed(2)
    made = network.build(collection("cifar10"))
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]) != name.startswith("classifier"), name
    assert made.state_dict()["classifier.1.weight"].shape == (10, 32)
    save_file({"resnet.x": torch.zeros(2)}, models / "model.safetensors")
    with pytest.raises(InvalidInput, match=r"model.safetensors: does not fill the model: resnet\.em.* is missing"):
        network.build(collection("cifar10"))
    (models / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(InvalidInput, match=r"model.safetensors: is no whole file of weights"):
        network.build(collection("cifar10"))
    (models / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"has no model.safetensors"):
        network.build(collection("cifar10"))


def _vocabulary(folder: Path, texts: list[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = sorted({word for text in texts for word in text.lower().replace(".", " .").split()})
    index = {"?": 0, **{word: i + 1 for i, word in enumerate(words)}}
    index |= {"<|startoftext|>": len(index), "<|endoftext|>": len(index) + 1}
    tokenizer = Tokenizer(models.WordLevel(index, unk_token="?"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<|startoftext|>", len(index) - 2), ("<|endoftext|>", len(index) - 1)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=ends
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def test_clip_classifies_as_the_two_towers_do(root: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against transformers' whole model, prompt by prompt, from the same pickle of tensors."""
    write("cifar10", root)
    from transformers import CLIPConfig, CLIPModel

    known(monkeypatch, "pytorch_model.bin")
    these = collection("cifar10")
    texts = [prompt.replace("{}", name) for name in these.names for prompt in these.prompts]
    assert len(texts) == 180
    tokenizer = _vocabulary(models, texts)
    end = tokenizer.token_to_id("<|endoftext|>")
    text = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
            "vocab_size": end + 1, "max_position_embeddings": 16, "bos_token_id": end - 1,
            "eos_token_id": end, "projection_dim": 8}  # fmt: skip
    image = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
             "patch_size": 4, "image_size": 16, "projection_dim": 8}  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=image, projection_dim=8)
    config.to_json_file(models / "config.json")
    torch.manual_seed(0)
    whole = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in whole.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    torch.save({**whole.state_dict(), "vision_model.embeddings.position_ids": torch.arange(17)[None]},
               models / "pytorch_model.bin")  # fmt: skip
    network = Clip(4, 16, 2, 2, 32, 8, 16, "some/net")
    model = network.build(these).eval()

    pixels = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        seen = F.normalize(whole.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        classes = []
        for name in these.names:
            each = []
            for prompt in these.prompts:
                tokens = torch.tensor([tokenizer.encode(prompt.replace("{}", name)).ids])
                each.append(F.normalize(whole.get_text_features(input_ids=tokens).pooler_output, dim=-1))
            classes.append(F.normalize(torch.cat(each).mean(dim=0), dim=-1))
        expected = whole.logit_scale.exp() * seen @ torch.stack(classes).T
        assert torch.allclose(model(pixels), expected, atol=1e-4)
    assert expected.std() > 0.1
    assert all(p.requires_grad for p in model.parameters())
    assert "classes" not in dict(model.named_parameters())

    task = dataclasses.replace(vision.clip_cifar10, network=network)
    assert task.prepare() == {"train": 54, "validation": 6, "test": 20}
    monkeypatch.setattr(_networks, "_read_texts", lambda *_: pytest.fail("computed again"))
    assert torch.equal(network.build(these).state_dict()["classes"], model.state_dict()["classes"])
    assert task.identity()["weights"] == _networks.CHECKPOINTS["some/net"].digest()


class _Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil"),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_never_runs(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    path = models / "pytorch_model.bin"
    torch.save({"a": _Evil()}, path)
    with pytest.raises(InvalidInput, match=r"pytorch_model.bin: holds more than tensors"):
        _networks.tensors(path)
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(InvalidInput, match=r"pytorch_model.bin: "):
        _networks.tensors(path)
    torch.save([1, 2], path)
    with pytest.raises(InvalidInput, match=r"is no mapping of names to tensors"):
        _networks.tensors(path)
    assert not (models / "evil").exists()


def test_published_checkpoints_are_pinned() -> None:
    for task in vision.TASKS:
        start = task.network.start
        assert (start is not None) == (task.name.startswith(("clip-", "resnet50-")) and "imagenet" not in task.name)
        if start is not None:
            assert len(start.revision) == 40
        for requirement in task.requirements():
            assert requirement.licence
    clip = _networks.CHECKPOINTS["openai/clip-vit-base-patch32"]
    assert clip.weights == ("pytorch_model.bin",)


def test_prompts_and_classes_fit_the_data_sets() -> None:
    for task in vision.TASKS:
        if isinstance(task.network, Clip):
            these = task.collection
            assert len(these.names) == len(set(these.names)) == these.classes
            assert these.prompts
            assert all(prompt.count("{}") == 1 for prompt in these.prompts)
    assert len(_datasets.entries()["cars"]["classes"]) == 196


# -- recipes


def test_recipes_are_as_long_as_they_say() -> None:
    def epochs(recipe: Recipe, images: int) -> float:
        return recipe.steps / (images // recipe.batch_size)

    assert epochs(vision.clip_cifar10.recipe, 49_000) == pytest.approx(20, abs=0.01)
    assert epochs(vision.clip_mnist.recipe, 59_000) == pytest.approx(20, abs=0.01)
    assert epochs(vision.clip_svhn.recipe, 72_257) == pytest.approx(20, abs=0.01)
    assert epochs(vision.clip_gtsrb.recipe, 25_640) == pytest.approx(20, abs=0.01)
    assert epochs(vision.clip_cars.recipe, 8_144 - 814) == pytest.approx(20, abs=0.01)
    assert epochs(vision.resnet50_imagenet.recipe, 1_280_167) == pytest.approx(100, abs=0.02)
    assert vision.resnet50_imagenet.recipe.warmup == 5 / 100
    assert epochs(vision.resnet50_cifar10.recipe, 49_000) == pytest.approx(20, abs=0.01)


def test_facts_say_what_a_reader_should_know() -> None:
    facts = vision.digits_vit.facts()
    assert facts["data"]
    assert facts["recipe from"].startswith("Own choice")
    assert float(facts["majority"]["accuracy"]) == pytest.approx(10, abs=1)


def test_the_identity_follows_the_examples() -> None:
    task = vision.digits_vit
    assert task.identity()["examples"] == collection("digits").digest()
    assert len({t.digest() for t in TINY.values()}) == len(TINY)
    assert task.metric.chance == 10.0


def test_the_folder_of_the_cache_is_named_for_people(root: Path) -> None:
    write("mnist", root)
    collection("mnist").splits()
    assert [path.name for path in sources.cache_folder().iterdir()] == ["mnist"]
