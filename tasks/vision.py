"""Image classification, from scikit-learn's digits to ImageNet.

Three scales, one adapter. Mini: the digits again (:mod:`digits` has them with a residual network), for a tiny vision
transformer. Small: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, each with ResNet-20 and a small vision transformer,
sized for one CPU core. Full: CLIP's ViT-B/32 fine-tuned on six data sets as in Instant Soup (Jaiswal et al., 2023),
ResNet-50 and MobileNetV2 on ImageNet from scratch as in AC/DC++ (Kuznedelev et al., 2023), and ResNet-50 moved from
ImageNet to small data sets, whole or with its backbone standing still.

Upstream's test split is the test split (of ImageNet, whose test labels are withheld, its validation split); nothing is
selected on it, validation is carved from the training images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from smcbench.recipe import Recipe
from smcbench.sources import Requirement
from smcbench.task import Batch, Outputs, Scope, Split

from . import _image_files, _images
from ._augment import Augmentation, resized
from ._images import Collection
from ._labelled import Labelled
from ._networks import BigResNet, Clip, MobileNet, Network, SmallResNet, SmallViT
from ._pictures import Encoded, Picture, Pictures
from ._recipes import recipe

PLAIN = Augmentation()
SHIFT = Augmentation(shift=2)
SHIFT_FLIP = Augmentation(shift=4, flip=True)
"""Of CIFAR, since He et al. (2015)."""
NEARLY_WHOLE = Augmentation(area=0.9)
"""Of CLIP's fine-tuning (Wortsman et al., 2022, WiSE-FT), on whose code Instant Soup's stands."""
INCEPTION = Augmentation(area=0.08, flip=True)
"""Of ImageNet, since Szegedy et al. (2015)."""


@dataclass(frozen=True)
class Images(Labelled):
    """Which class is it? Accuracy on the test images.

    Attributes:
        data_set: name of the collection of images.
        trained: ``head``: everything but the classifier stands still. Its weights keep their gradients, so that methods
            can score and prune them, but their learning rate is zero and their batch norm stays in evaluation mode:
            what is pruned becomes zero, what is kept stays exactly as it came, and what is grown again has no way to
            become other than zero. A method that relies on the backbone's recovery has none; the bill still has the
            backbone's gradients, which are computed.
    """

    family: ClassVar[str] = "vision"
    version: ClassVar[int] = 1

    name: str
    recipe: Recipe
    data_set: str
    network: Network
    augmentation: Augmentation = PLAIN
    scope: Scope = "all"
    smoothing: float = 0.0
    trained: Literal["all", "head"] = "all"

    @property
    def collection(self) -> Collection:
        """Where its images are from."""
        return _images.collection(self.data_set)

    @property
    def classes(self) -> int:
        """As many as the collection has."""
        return self.collection.classes

    @property
    def pretrained(self) -> bool:
        """Whether the network starts from a checkpoint."""
        return self.network.start is not None

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """The other scopes; where ResNet-50 starts from a checkpoint, a random start, and training the head alone."""
        found: dict[str, dict[str, Any]] = {s: {"scope": s} for s in get_args(Scope) if s != self.scope}
        if isinstance(self.network, BigResNet) and self.pretrained:
            found["scratch"] = {"network": self.network.random()}
            found["linear"] = {"trained": "head", "network": dataclasses.replace(self.network, still=True)}
        return found

    def requirements(self) -> Sequence[Requirement]:
        """The data set and the checkpoint."""
        return [each for each in (self.collection.dataset, self.network.start) if each is not None]

    def prepare(self) -> dict[str, int]:
        """With what a checkpoint's tower of text says of the classes."""
        sizes = super().prepare()
        if self.pretrained:
            self.build_model()
        return sizes

    def head(self) -> tuple[str, ...]:
        """What of the network is no part of the encoder."""
        return self.network.head

    def build_model(self) -> nn.Module:
        """The network for these classes."""
        return self.network.build(self.collection)

    def architecture(self) -> nn.Module:
        """The network at random."""
        return self.network.random().build(self.collection)

    def scaled(self, width: float) -> Images:
        """With a narrower network."""
        return dataclasses.replace(self, network=self.network.scaled(width))

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """No weight decay on vectors; where only the head is trained, neither rate nor decay on anything else."""
        if self.trained == "all":
            return super().parameter_groups(model)
        named = list(model.named_parameters())
        still = [p for name, p in named if not name.startswith(self.head())]
        matrices = [p for name, p in named if name.startswith(self.head()) and p.ndim > 1]
        vectors = [p for name, p in named if name.startswith(self.head()) and p.ndim <= 1]
        return [
            {"params": matrices},
            {"params": vectors, "weight_decay": 0.0},
            {"params": still, "weight_decay": 0.0, "lr": 0.0},
        ]

    def data(self, split: Split) -> Pictures:
        """Pictures, memory-mapped or in their files."""
        return self.collection.splits()[split]

    def labels(self, split: Split) -> Sequence[int]:
        """The labels of a split, in order."""
        return self.data(split).labels

    def collate(self, examples: list[Picture]) -> Batch:
        """Bytes of shape (examples, channels, height, width), and labels; files are decoded here.

        Raises:
            InvalidInput: a file is no image, or Pillow is missing.
        """
        if isinstance(examples[0].image, Encoded):
            pixels = _image_files.decoded([example.image for example in examples], self.collection.shape[0])
        else:
            pixels = np.stack([example.image for example in examples])
        return {
            "image": torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
            "label": torch.tensor([example.label for example in examples]),
        }

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Logits of the classes; in training of augmented images, else of their middle."""
        outputs = model(self.seen(batch["image"], model.training))
        return Outputs(getattr(outputs, "logits", outputs))

    def seen(self, image: Tensor, training: bool) -> Tensor:
        """What the network sees of a batch of bytes: in colour if need be, at its size, of mean 0 and deviation 1."""
        network, collection = self.network, self.collection
        x = image.float() / collection.white
        if network.colour and x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        side = network.side
        if side is not None and min(x.shape[2:]) < side:
            x = resized(x, side)
        mean, std = network.normal or (collection.mean, collection.std)
        # Before the augmentation: what it fills in is black.
        x = (self.augmentation if training else PLAIN)(x, side)
        return (x - x.new_tensor(mean)[:, None, None]) / x.new_tensor(std)[:, None, None]

    def identity(self) -> dict[str, Any]:
        """With digests of the examples and of the weights."""
        start = self.network.start
        extra = {"weights": start.digest()} if start is not None else {}
        return {**super().identity(), "examples": self.collection.digest(), **extra}

    def facts(self) -> dict[str, Any]:
        """With what the splits are."""
        return {"data": self.collection.note, **super().facts()}

    def tiny(self) -> Images:
        """The network at its smallest, on generated images: one a kind of network, whatever the task."""
        usual = "encoder" if isinstance(self.network, Clip) else "all"
        variant = "linear" if self.trained == "head" else self.scope
        return Images(
            name=f"{self.network.kind}-tiny" + (f"@{variant}" if variant != usual else ""),
            recipe=recipe("tiny-images"),
            data_set="blobs",
            network=self.network.tiny(),
            augmentation=Augmentation(shift=1, flip=True, area=1.0 if self.network.side is None else 0.5),
            scope=self.scope,
            smoothing=0.1,
            trained=self.trained,
        )


# -- mini

# 39,610 parameters, 40 s on one core. It qualifies (three seeds): dense is 86.6 points above chance, its standard
# deviation .75; at sparsity .945 one-shot magnitude pruning after training (93.1) beats random pruning before it (86.7,
# from 80.0 to 90.7) by 6.3 points, 8.4 such deviations. At a width of 32 it was no better.
digits_vit = Images("digits-vit", recipe("digits-vit"), "digits", SmallViT(2, 48, 2, 4, 96), Augmentation(shift=1))

# -- small

mnist_small = Images("mnist-small", recipe("resnet20-mnist"), "mnist", SmallResNet(), SHIFT)
fashion_mnist_small = Images(
    "fashion-mnist-small", recipe("resnet20-fashion-mnist"), "fashion-mnist", SmallResNet(), Augmentation(2, True)
)
cifar10_small = Images("cifar10-small", recipe("resnet20-cifar"), "cifar10", SmallResNet(), SHIFT_FLIP)
cifar100_small = Images("cifar100-small", recipe("resnet20-cifar"), "cifar100", SmallResNet(), SHIFT_FLIP)
mnist_small_vit = Images("mnist-small-vit", recipe("vit-mnist"), "mnist", SmallViT(), SHIFT)
fashion_mnist_small_vit = Images(
    "fashion-mnist-small-vit", recipe("vit-fashion-mnist"), "fashion-mnist", SmallViT(), Augmentation(2, True)
)
cifar10_small_vit = Images("cifar10-small-vit", recipe("vit-cifar"), "cifar10", SmallViT(), SHIFT_FLIP)
cifar100_small_vit = Images("cifar100-small-vit", recipe("vit-cifar"), "cifar100", SmallViT(), SHIFT_FLIP)

# -- full


def _clip(name: str, which: str) -> Images:
    return Images(f"clip-{name}", recipe(which), name, Clip(), NEARLY_WHOLE, "encoder")


clip_cifar10 = _clip("cifar10", "clip-cifar")
clip_cifar100 = _clip("cifar100", "clip-cifar")
clip_mnist = _clip("mnist", "clip-mnist")
clip_svhn = _clip("svhn", "clip-svhn")
clip_gtsrb = _clip("gtsrb", "clip-gtsrb")
clip_cars = _clip("cars", "clip-cars")

resnet50_imagenet = Images("resnet50-imagenet", recipe("imagenet"), "imagenet", BigResNet(), INCEPTION, smoothing=0.1)
mobilenetv2_imagenet = Images(
    "mobilenetv2-imagenet", recipe("imagenet"), "imagenet", MobileNet(), INCEPTION, smoothing=0.1
)


def _transfer(name: str, augmentation: Augmentation) -> Images:
    network = BigResNet(checkpoint="microsoft/resnet-50")
    return Images(f"resnet50-{name}", recipe("resnet50-transfer"), name, network, augmentation)


resnet50_cifar10 = _transfer("cifar10", Augmentation(flip=True, area=0.9))
resnet50_cifar100 = _transfer("cifar100", Augmentation(flip=True, area=0.9))
resnet50_mnist = _transfer("mnist", NEARLY_WHOLE)
resnet50_fashion_mnist = _transfer("fashion-mnist", Augmentation(flip=True, area=0.9))

TASKS: tuple[Images, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Images))
"""All of them."""
