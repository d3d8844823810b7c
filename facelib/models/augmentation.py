"""Random changes of training images, drawn per image and applied to a whole batch at once."""

import math

import torch
import torch.nn.functional as F

MAX_ROTATION = 12.0  # degrees
MAX_SHIFT = 0.06  # of the edge
MAX_ZOOM = 0.12
MAX_BRIGHTNESS = 0.25
MAX_CONTRAST = 0.25
P_GREY = 0.1  # share of images turned grey, since every data set has some
P_ERASE = 0.25  # share of images with a blank rectangle


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _affine_grid(n: int, size: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Sampling grid (n, H, W, 2) of a random flip, rotation, zoom and shift of each image."""
    angle = torch.deg2rad(_uniform(n, -MAX_ROTATION, MAX_ROTATION, generator))
    zoom = 1 + _uniform(n, -MAX_ZOOM, MAX_ZOOM, generator)
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    shift = _uniform(2 * n, -2 * MAX_SHIFT, 2 * MAX_SHIFT, generator).view(n, 2, 1)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    matrix = torch.stack([cos * flip, -sin, sin * flip, cos], dim=1).view(n, 2, 2)
    return F.affine_grid(torch.cat([matrix, shift], dim=2), list(size), align_corners=False)


def _erase(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blank one rectangle of a sixteenth to a fifth of the area in some of the images."""
    n, _, height, width = images.shape
    area = _uniform(n, 1 / 16, 1 / 5, generator)
    ratio = torch.exp(_uniform(n, -math.log(2), math.log(2), generator))
    half_h, half_w = (area * ratio).sqrt() / 2, (area / ratio).sqrt() / 2
    y, x = torch.rand(n, generator=generator), torch.rand(n, generator=generator)
    hit = torch.rand(n, generator=generator) < P_ERASE
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    inside = ((rows - y[:, None]).abs() < half_h[:, None])[:, :, None] & (
        (columns - x[:, None]).abs() < half_w[:, None]
    )[:, None, :]
    mask = (inside & hit[:, None, None])[:, None].to(images.device)
    return images.masked_fill(mask, 0.5)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flip, rotate, zoom, shift, re-light, grey and partly blank each image at random.

    Parameters
    ----------
    images : float tensor (n, 3, H, W), 0 to 1
    generator : torch.Generator
        On the CPU, so that one seed means the same changes on every device.

    Returns
    -------
    float tensor (n, 3, H, W), 0 to 1
    """
    n, device = len(images), images.device
    grid = _affine_grid(n, images.shape, generator).to(device)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    contrast = (1 + _uniform(n, -MAX_CONTRAST, MAX_CONTRAST, generator)).view(n, 1, 1, 1).to(device)
    brightness = _uniform(n, -MAX_BRIGHTNESS, MAX_BRIGHTNESS, generator).view(n, 1, 1, 1).to(device)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean * (1 + brightness)
    grey = (torch.rand(n, generator=generator) < P_GREY).view(n, 1, 1, 1).to(device)
    images = torch.where(grey, images.mean(dim=1, keepdim=True), images)
    return _erase(images.clamp(0, 1), generator)
