"""What is done to a batch of images: operations on tensors (count, channels, height, width), on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images, each image its own.

    Attributes:
        shift: most pixels by which an image moves each way; what comes in is black.
        flip: whether left and right may be exchanged.
        area: smallest part of the area that a crop keeps before it is scaled to the size of the network (its sides at
            ratios from 3:4 to 4:3, as Inception's); 1: no crops.
    """

    shift: int = 0
    flip: bool = False
    area: float = 1.0

    def __call__(self, images: Tensor, side: int | None) -> Tensor:
        """Changed images; draws from torch's generator on the CPU, the same numbers whatever the device.

        Args:
            images: numbers of shape (count, channels, height, width).
            side: of the images to return; none: as they are.
        """
        count, (height, width) = len(images), images.shape[-2:]
        if self.area < 1:
            images = crops(images, boxes(count, height, width, self.area), side or height)
        elif side is not None:
            images = middle(images, side)
        if self.shift:
            down, right = torch.randint(2 * self.shift + 1, (2, count))
            images = shifted(images, down, right, self.shift)
        if self.flip:
            images = flipped(images, torch.rand(count) < 0.5)
        return images


def shifted(images: Tensor, down: Tensor, right: Tensor, padding: int) -> Tensor:
    """Of each image, with ``padding`` black pixels on all sides, the window that begins at ``down`` and ``right``."""
    count, channels, height, width = images.shape
    down, right = down.to(images.device), right.to(images.device)
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.arange(width, device=images.device)
    padded = F.pad(images, (padding,) * 4)
    padded = padded.gather(2, rows[:, None, :, None].expand(count, channels, height, width + 2 * padding))
    return padded.gather(3, columns[:, None, None, :].expand(count, channels, height, width))


def flipped(images: Tensor, which: Tensor) -> Tensor:
    """Images of which some are mirrored."""
    return torch.where(which.to(images.device)[:, None, None, None], images.flip(3), images)


def middle(images: Tensor, side: int) -> Tensor:
    """The square of ``side`` pixels in the middle."""
    top, left = (images.shape[2] - side) // 2, (images.shape[3] - side) // 2
    return images[:, :, top : top + side, left : left + side]


def resized(images: Tensor, side: int) -> Tensor:
    """Images of [0, 1] at another size, bicubic and without aliasing, as Pillow does it."""
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def boxes(count: int, height: int, width: int, area: float) -> Tensor:
    """Random boxes (top, left, height, width) in pixels, of shape (count, 4).

    Areas are uniform in [area, 1] of the whole, the logarithms of the ratios in those of [3/4, 4/3]; a side that would
    not fit is cut to the image.
    """
    part = torch.empty(count).uniform_(area, 1) * height * width
    ratio = torch.empty(count).uniform_(math.log(3 / 4), math.log(4 / 3)).exp()
    high, wide = (part / ratio).sqrt().clamp(max=height), (part * ratio).sqrt().clamp(max=width)
    top, left = torch.rand(count) * (height - high), torch.rand(count) * (width - wide)
    return torch.stack((top, left, high, wide), dim=1)


def crops(images: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Each image's box scaled to a square of ``side`` pixels, bilinear."""
    top, left, high, wide = boxes.to(images.device, images.dtype).T[:, :, None]
    height, width = images.shape[-2:]
    # The centres of the new pixels, -1 and 1 being the edges of the old image. Not F.affine_grid: it multiplies
    # matrices, which autocast would do in bf16, and that is off by a pixel.
    centres = (torch.arange(side, device=images.device, dtype=images.dtype) + 0.5) / side
    along, across = 2 * (top + high * centres) / height - 1, 2 * (left + wide * centres) / width - 1
    shape = (len(images), side, side)
    grid = torch.stack((across[:, None, :].expand(shape), along[:, :, None].expand(shape)), dim=3)
    return F.grid_sample(images, grid, "bilinear", "border", align_corners=False)
