"""The residual networks of He et al. (CVPR 2016) with two convolutions a block, in torchvision's names and weights.

Importing torchvision for them takes as long as importing torch: it loads the compiler for its detection operators.
"""

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, added to the input, or to its projection where shape or stride change."""

    def __init__(self, inputs: int, outputs: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = downsample

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        return self.relu(residual + (images if self.downsample is None else self.downsample(images)))


class ResNet(nn.Module):
    """Logits (n, 1000) of images (n, 3, H, W); `blocks` are the numbers of blocks in `layer1` to `layer4`.

    The same seed gives the same weights as in torchvision.
    """

    def __init__(self, blocks: tuple[int, int, int, int]):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for stage, count in enumerate(blocks):
            outputs = 64 << stage
            self.add_module(f"layer{stage + 1}", _layer(inputs, outputs, count, 1 if stage == 0 else 2))
            inputs = outputs
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        images = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        return self.fc(self.avgpool(images).flatten(1))


def _layer(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride > 1:
        downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, downsample)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, None) for _ in range(blocks - 1)))
