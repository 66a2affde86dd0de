"""The networks of the vision tasks: their sizes, and the checkpoint where their weights start from one."""

from __future__ import annotations

import dataclasses
import functools
import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.sources import Checkpoint, prepared
from smcbench.task import nearest

from ._images import Collection
from ._pretrained import tokenizer

CHECKPOINTS = {
    checkpoint.name: checkpoint
    for checkpoint in (
        # This commit has no safetensors, only a pickle; it is read as tensors and nothing else (weights_only).
        Checkpoint(
            "openai/clip-vit-base-patch32",
            "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
            "MIT",
            "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            weights=("pytorch_model.bin",),
        ),
        Checkpoint("microsoft/resnet-50", "34c2154c194f829b11125337b98c8f5f9965ff19", "Apache-2.0"),
    )
}

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network(ABC):
    """A network by its sizes; a subclass is one kind."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What it is, in a word."""

    @property
    def side(self) -> int | None:
        """The size of the images it takes; none: of any."""
        return None

    @property
    def colour(self) -> bool:
        """Whether it takes three channels, whatever the images have."""
        return False

    @property
    def normal(self) -> tuple[Sequence[float], Sequence[float]] | None:
        """Mean and standard deviation with which its weights were trained; none: those of the images at hand."""
        return None

    @property
    def start(self) -> Checkpoint | None:
        """The checkpoint whose weights it starts from."""
        return None

    @property
    @abstractmethod
    def head(self) -> tuple[str, ...]:
        """Prefixes of the parameters that are no part of the encoder."""

    @abstractmethod
    def build(self, collection: Collection) -> nn.Module:
        """The network for a collection's classes and channels, in fp32.

        Raises:
            InvalidInput: the checkpoint is missing, or does not fill it.
        """

    @abstractmethod
    def tiny(self) -> Network:
        """The smallest of its kind, for 16 x 16 images; weights are random."""

    @abstractmethod
    def scaled(self, width: float) -> Network:
        """The same network with its widths times ``width``, each the nearest that there may be."""

    def random(self) -> Network:
        """The same network with random weights."""
        return self


# -- residual networks for small images


class Block(nn.Module):
    """Two 3x3 convolutions around a skip connection.

    Where the shape changes, the skip is a 1x1 convolution (option B of He et al., 2015), or the image at every other
    pixel with channels of zeros behind (option A, without parameters).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, projection: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = (
                nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
                if projection
                else Subsampled(stride, outputs - inputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class Subsampled(nn.Module):
    """Every so-manieth pixel, and more channels, all zero."""

    def __init__(self, stride: int, more: int) -> None:
        super().__init__()
        self.stride, self.more = stride, more

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class ResNet(nn.Module):
    """A residual network for small images: a stem, then blocks by width, each width but the first halving the image."""

    def __init__(
        self, widths: Sequence[int], blocks: int = 1, channels: int = 1, classes: int = 10, projection: bool = True
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        made, inputs = [], widths[0]
        for place, width in enumerate(widths):
            for number in range(blocks):
                made.append(Block(inputs, width, 2 if place and not number else 1, projection))
                inputs = width
        self.blocks = nn.Sequential(*made)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(image)).mean(dim=(2, 3))
        logits: Tensor = self.head(features)
        return logits


@dataclass(frozen=True)
class SmallResNet(Network):
    """ResNet-20 as He et al. (2015, arXiv:1512.03385, section 4.2) made it for CIFAR-10.

    Skips without parameters (option A) and their initialisation. 269,722 parameters for ten classes in colour
    (the paper's table: 0.27 M), 269,434 in grey, 275,572 for a hundred classes.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 3
    kind: str = "resnet"

    @property
    def head(self) -> tuple[str, ...]:
        """The classifier."""
        return ("head.",)

    def build(self, collection: Collection) -> nn.Module:
        """As the class says."""
        model = ResNet(self.widths, self.blocks, collection.shape[2], collection.classes, projection=False)
        return _he(model)

    def scaled(self, width: float) -> SmallResNet:
        """With fewer channels."""
        return dataclasses.replace(self, widths=tuple(nearest(each * width) for each in self.widths))

    def tiny(self) -> SmallResNet:
        """One block a width."""
        return SmallResNet((6, 12), 1)


def _he(model: nn.Module) -> nn.Module:
    """Convolutions as He et al. (2015, arXiv:1502.01852) start them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


# -- transformers' networks


@dataclass(frozen=True)
class SmallViT(Network):
    """A small vision transformer (Dosovitskiy et al., 2021, arXiv:2010.11929) of transformers' making.

    With the defaults 811,146 parameters for ten classes of CIFAR's size; 805,130 for MNIST's.
    """

    patch: int = 4
    width: int = 128
    layers: int = 6
    heads: int = 4
    inner: int = 256
    kind: str = "vit"

    @property
    def head(self) -> tuple[str, ...]:
        """Patch and position embeddings, and the classifier."""
        return ("vit.embeddings.", "classifier.")

    def build(self, collection: Collection) -> nn.Module:
        """As the class says."""
        from transformers.models.vit import ViTConfig, ViTForImageClassification

        config = ViTConfig(
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.inner,
            image_size=collection.shape[0],
            num_channels=collection.shape[2],
            patch_size=self.patch,
            num_labels=collection.classes,
            attn_implementation="sdpa",
        )
        return ViTForImageClassification(config)  # type: ignore[no-any-return]

    def scaled(self, width: float) -> SmallViT:
        """With narrower heads and a narrower MLP."""
        return dataclasses.replace(
            self, width=nearest(self.width * width, self.heads), inner=nearest(self.inner * width)
        )

    def tiny(self) -> SmallViT:
        """Two layers."""
        return SmallViT(4, 16, 2, 2, 32)


class Large(Network):
    """A network that takes colour images of one size, and may start from a checkpoint."""

    size: int
    checkpoint: str | None = None

    @property
    def side(self) -> int:
        """Its size."""
        return self.size

    @property
    def colour(self) -> bool:
        """It takes colour."""
        return True

    @property
    def start(self) -> Checkpoint | None:
        """The checkpoint."""
        return CHECKPOINTS[self.checkpoint] if self.checkpoint else None

    def random(self) -> Network:
        """Without the checkpoint."""
        without: dict[str, Any] = {"checkpoint": None}
        return dataclasses.replace(self, **without) if self.checkpoint else self


class Still(nn.BatchNorm2d):
    """Batch norm that stays in evaluation mode, with the statistics it has."""

    def train(self, mode: bool = True) -> Still:
        """Never."""
        super().train(False)
        return self

    def reset_running_stats(self) -> None:
        """Nothing would ever fill them again."""


@dataclass(frozen=True)
class BigResNet(Large):
    """ResNet-50 of transformers' making: 25,557,032 parameters for a thousand classes.

    Attributes:
        checkpoint: whose weights it starts from, but for the classifier; none: it starts at random.
        still: whether its batch norm stays in evaluation mode.
    """

    stem: int = 64
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    size: int = 224
    checkpoint: str | None = None
    still: bool = False
    kind: str = "resnet50"

    @property
    def normal(self) -> tuple[Sequence[float], Sequence[float]]:
        """ImageNet's."""
        return IMAGENET_MEAN, IMAGENET_STD

    @property
    def head(self) -> tuple[str, ...]:
        """The classifier."""
        return ("classifier.",)

    def build(self, collection: Collection) -> nn.Module:
        """As the class says."""
        from transformers.models.resnet import ResNetConfig, ResNetForImageClassification

        config = ResNetConfig(
            embedding_size=self.stem,
            hidden_sizes=list(self.widths),
            depths=list(self.depths),
            num_labels=collection.classes,
        )
        model = ResNetForImageClassification(config)
        if self.start is not None:
            path = self.start.verified()
            fill(model, tensors(path), path, new=self.head)
        if self.still:
            for module in model.modules():
                if type(module) is nn.BatchNorm2d:
                    module.__class__ = Still
                    module.train()
        return model  # type: ignore[no-any-return]

    def scaled(self, width: float) -> BigResNet:
        """With fewer channels; a bottleneck has a quarter of its block's."""
        widths = tuple(nearest(each * width, 4) for each in self.widths)
        return dataclasses.replace(self, stem=nearest(self.stem * width), widths=widths)

    def tiny(self) -> BigResNet:
        """Two bottlenecks."""
        return BigResNet(8, (16, 32), (1, 1), 12, still=self.still)


@dataclass(frozen=True)
class MobileNet(Large):
    """MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381) of transformers' making: 3,504,872 parameters.

    That is torchvision's count. Google's checkpoints have 3,506,153: their classifier has a 1,001st class, background,
    of 1,280 weights and a bias. Two settings of transformers come from TensorFlow and mean something else in torch;
    dropout is .2 here (there .8, which was the share kept), and batch norm gives a new batch the weight .1 in its
    running statistics (there .997, which was the weight of the old ones).
    """

    multiplier: float = 1.0
    size: int = 224
    kind: str = "mobilenet"

    @property
    def head(self) -> tuple[str, ...]:
        """The classifier."""
        return ("classifier.",)

    def build(self, collection: Collection) -> nn.Module:
        """As the class says."""
        from transformers.models.mobilenet_v2 import MobileNetV2Config, MobileNetV2ForImageClassification

        config = MobileNetV2Config(
            depth_multiplier=self.multiplier, classifier_dropout_prob=0.2, num_labels=collection.classes
        )
        model = MobileNetV2ForImageClassification(config)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
        return _he(model)

    def scaled(self, width: float) -> MobileNet:
        """By its own multiplier, which takes channels by eights and leaves the last 1,280 as they are."""
        return dataclasses.replace(self, multiplier=self.multiplier * width)

    def tiny(self) -> MobileNet:
        """The least width that transformers makes; all its layers."""
        return MobileNet(0.05, 12)


# -- CLIP


class Zeroshot(nn.Module):
    """CLIP's tower of vision with its projection, and a fixed direction a class: what its tower of text says of it.

    Args:
        tower: transformers' ``CLIPVisionModelWithProjection``.
        classes: unit vectors of shape (classes, size of the projection).
        scale: the factor of the cosines.
    """

    def __init__(self, tower: Any, classes: Tensor, scale: float) -> None:
        super().__init__()
        self.vision_model = tower.vision_model
        self.visual_projection = tower.visual_projection
        self.register_buffer("classes", classes)
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        features = self.visual_projection(self.vision_model(pixel_values=image).pooler_output)
        with torch.autocast(image.device.type, enabled=False):  # a hundredfold cosine in bf16 would often tie
            cosines: Tensor = F.linear(F.normalize(features.float(), dim=-1), self.get_buffer("classes"))
            return self.scale * cosines


@dataclass(frozen=True)
class Clip(Large):
    """CLIP (Radford et al., 2021, arXiv:2103.00020), the tower of vision of ViT-B/32, classifying without a head.

    87,456,000 parameters and 393,216 of the projection; the tower of text is frozen: it only makes the directions of
    the classes, once, from CLIP's own prompts (``datasets.toml``), each the mean over the prompts.
    """

    patch: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    projection: int = 512
    size: int = 224
    checkpoint: str | None = "openai/clip-vit-base-patch32"
    kind: str = "clip"

    @property
    def normal(self) -> tuple[Sequence[float], Sequence[float]]:
        """CLIP's."""
        return CLIP_MEAN, CLIP_STD

    @property
    def head(self) -> tuple[str, ...]:
        """Patch and position embeddings, and the projection: the encoder is attention and MLP of the blocks."""
        return ("vision_model.embeddings.", "visual_projection.")

    def build(self, collection: Collection) -> nn.Module:
        """As the class says; without a checkpoint the directions of the classes are random, but always the same."""
        from transformers.models.clip import CLIPVisionConfig, CLIPVisionModelWithProjection

        config = CLIPVisionConfig(
            hidden_size=self.width,
            intermediate_size=self.inner,
            projection_dim=self.projection,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            image_size=self.size,
            patch_size=self.patch,
            attn_implementation="sdpa",
        )
        tower = CLIPVisionModelWithProjection(config)
        if self.start is None:
            draw = np.random.default_rng(0).standard_normal((collection.classes, self.projection))
            directions = torch.from_numpy(draw.astype(np.float32))
            return Zeroshot(tower, F.normalize(directions, dim=-1), math.exp(2.6592))  # CLIP's own first scale, 1/0.07
        path = self.start.verified()
        fill(tower, tensors(path), path)
        made = _directions(self.start, collection)
        return Zeroshot(tower, torch.from_numpy(made["classes"].copy()), float(made["scale"]))

    def scaled(self, width: float) -> Clip:
        """With narrower heads and a narrower MLP; the space of the classes stays."""
        return dataclasses.replace(
            self, width=nearest(self.width * width, self.heads), inner=nearest(self.inner * width)
        )

    def tiny(self) -> Clip:
        """Two layers."""
        return Clip(4, 16, 2, 2, 32, 8, 16, None)


def _directions(checkpoint: Checkpoint, collection: Collection) -> dict[str, Any]:
    """The directions of a collection's classes and the scale, computed once."""
    texts = [[prompt.replace("{}", name) for prompt in collection.prompts] for name in collection.names]
    key = {"checkpoint": checkpoint.name, "weights": checkpoint.digest(), "texts": files.digest(texts)}
    return prepared("clip-classes", key, functools.partial(_read_texts, checkpoint, texts))


def _read_texts(checkpoint: Checkpoint, texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    from transformers.models.clip import CLIPConfig, CLIPTextModelWithProjection

    config = CLIPConfig.from_json_file(str(checkpoint.file("config.json"))).text_config
    encoding = tokenizer(checkpoint.file("tokenizer.json"))
    end = encoding.token_to_id("<|endoftext|>")
    encoding.enable_padding(pad_id=end, pad_token="<|endoftext|>")  # what follows the first end is never looked at
    encoding.enable_truncation(config.max_position_embeddings)
    tower, path = CLIPTextModelWithProjection(config).eval(), checkpoint.verified()
    found = tensors(path)
    fill(tower, found, path)
    directions = []
    with torch.inference_mode():
        for prompts in texts:
            tokens = torch.tensor([each.ids for each in encoding.encode_batch(list(prompts))])
            features = F.normalize(tower(input_ids=tokens).text_embeds, dim=-1)
            directions.append(F.normalize(features.mean(dim=0), dim=-1))
    return {"classes": torch.stack(directions).numpy(), "scale": found["logit_scale"].float().exp().numpy()}


# -- weights


def tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file of weights, on the CPU; a pickle is read without running anything of it.

    Raises:
        InvalidInput: it is no such file, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)  # type: ignore[no-any-return]
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError):
            raise InvalidInput(f"{path}: holds more than tensors, or is torn; it was not read") from None
        raise InvalidInput(f"{path}: is no whole file of weights; fetch it again") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InvalidInput(f"{path}: is no mapping of names to tensors")
    return found


def fill(model: nn.Module, found: Mapping[str, Tensor], path: Path, new: Iterable[str] = ()) -> None:
    """Put a file's tensors into a model by name; only what begins with ``new``, and counters, may keep what it has.

    Raises:
        InvalidInput: one is missing, or has another shape; ``path`` is what to name.
    """
    wanted = {name: t for name, t in model.state_dict().items() if not name.startswith(tuple(new))}
    wanted = {name: t for name, t in wanted.items() if not name.endswith("num_batches_tracked")}
    wrong = [name for name, t in wanted.items() if name not in found or found[name].shape != t.shape]
    if wrong:
        raise InvalidInput(f"{path}: does not fill the model: {min(wrong)} is missing or of another shape")
    model.load_state_dict({name: found[name] for name in wanted}, strict=False)
