"""Random augmentation of training images, drawn per image and applied to a whole batch at once."""

import math
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Limits:
    """The largest changes; every image is flipped with a probability of one half."""

    rotation: float = 0.0  # degrees
    shift: float = 0.0  # of the edge
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    p_grey: float = 0.0  # share of images turned grey, since every data set has some
    p_erase: float = 0.0  # share of images with a blank rectangle
    p_coarse: float = 0.0  # share of images of a lower resolution, down to a third, as small or blurred photographs are

    def scaled(self, factor: float) -> "Limits":
        return Limits(**{name: value * factor for name, value in asdict(self).items()})


AUGMENTATIONS = {
    "flip": Limits(),
    "faces": Limits(rotation=12, shift=0.06, zoom=0.12, brightness=0.25, contrast=0.25, p_grey=0.1, p_erase=0.25),
}
AUGMENTATIONS["photographs"] = replace(AUGMENTATIONS["faces"], zoom=0.16, p_coarse=0.3)
COARSEST = 3.0  # factor of the lowest resolution


class BatchRandom:
    """Random numbers of a batch, drawn on the CPU, so that a seed means the same augmentation on every device.

    Process `rank` of `world` has `n` images; its image i is image rank + i * world of the batch.
    """

    def __init__(self, generator: torch.Generator, n: int, rank: int = 0, world: int = 1):
        self.generator, self.n, self.rank, self.world = generator, n, rank, world

    def uniform(self, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """One number between low and high for each image: float (n,)."""
        return torch.rand(self.n * self.world, generator=self.generator)[self.rank :: self.world] * (high - low) + low

    def shared(self, low: float, high: float) -> float:
        """One number between low and high, the same for all images of the batch."""
        return torch.rand(1, generator=self.generator).item() * (high - low) + low


def _affine_grid(size: torch.Size, random: BatchRandom, limits: Limits, strength: torch.Tensor) -> torch.Tensor:
    """Sampling grid (n, H, W, 2) of a random flip, rotation, zoom and shift of each image."""
    angle = torch.deg2rad(random.uniform(-limits.rotation, limits.rotation)) * strength
    zoom = 1 + random.uniform(-limits.zoom, limits.zoom) * strength
    flip = torch.where(random.uniform() < 0.5, -1.0, 1.0)
    shift = [random.uniform(-2 * limits.shift, 2 * limits.shift) * strength for _ in range(2)]
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    matrix = torch.stack([cos * flip, -sin, shift[0], sin * flip, cos, shift[1]], dim=1).view(-1, 2, 3)
    return F.affine_grid(matrix, list(size), align_corners=False)


def _erase(images: torch.Tensor, random: BatchRandom, p: float) -> torch.Tensor:
    """Blank one rectangle of a sixteenth to a fifth of the area in a share p of the images."""
    height, width = images.shape[2:]
    area = random.uniform(1 / 16, 1 / 5)
    ratio = torch.exp(random.uniform(-math.log(2), math.log(2)))
    half_h, half_w = (area * ratio).sqrt() / 2, (area / ratio).sqrt() / 2
    y, x, hit = random.uniform(), random.uniform(), random.uniform() < p
    rows, columns = ((torch.arange(edge) + 0.5) / edge for edge in (height, width))
    in_rows = (rows - y[:, None]).abs() < half_h[:, None]
    in_columns = (columns - x[:, None]).abs() < half_w[:, None]
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    mask = (inside & hit[:, None, None])[:, None].to(images.device)
    return images.masked_fill(mask, 0.5)


def _coarsen(images: torch.Tensor, random: BatchRandom, p: float) -> torch.Tensor:
    """Reduce a share p of the images, all of a batch by one random factor, and enlarge them again."""
    hit, factor = random.uniform() < p, random.shared(1.0, COARSEST)
    if not hit.any():
        return images
    edges = [max(1, round(edge / factor)) for edge in images.shape[2:]]
    options = {"mode": "bilinear", "align_corners": False}
    images, rows = images.clone(), hit.to(images.device)
    small = F.interpolate(images[rows], edges, antialias=True, **options)
    images[rows] = F.interpolate(small, images.shape[2:], **options)
    return images


def augment(
    images: torch.Tensor, random: BatchRandom, limits=AUGMENTATIONS["faces"], strength: torch.Tensor | None = None
) -> torch.Tensor:
    """Flip, rotate, zoom, shift, re-light, grey, coarsen and partly blank each image at random.

    Images are (n, 3, H, W), 0 to 1. `strength` (n,) multiplies each image's rotation, zoom, shift and light.
    """
    device = images.device
    strength = torch.ones(len(images)) if strength is None else strength.cpu()

    def by_image(values: torch.Tensor) -> torch.Tensor:
        return values.view(-1, 1, 1, 1).to(device)

    grid = _affine_grid(images.shape, random, limits, strength).to(device)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    contrast = by_image(1 + random.uniform(-limits.contrast, limits.contrast) * strength)
    brightness = by_image(1 + random.uniform(-limits.brightness, limits.brightness) * strength)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean * brightness
    grey = by_image(random.uniform() < limits.p_grey)
    images = torch.where(grey, images.mean(dim=1, keepdim=True), images)
    images = images.clamp(0, 1)
    if limits.p_coarse:
        images = _coarsen(images, random, limits.p_coarse)
    return _erase(images, random, limits.p_erase)
