"""Whole batches from the pixel cache, in an order fixed by seed and epoch."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import distributed
from torch.utils.data import Dataset, Sampler

from facelib.data.pixels import FaceImages
from facelib.schema import Attribute


def rank_and_world() -> tuple[int, int]:
    """Number of this process and how many train together; 0 and 1 for a training in one process."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, px, px, 3) to float32 (n, 3, px, px), 0 to 1, in channels-last memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def class_weights(labels: pd.DataFrame, attributes: Iterable[Attribute]) -> np.ndarray:
    """Weights (n,), 1 on average, that would give every group (age band, class) the same share.

    The mean over the attributes of n / (groups * count), 1 where the label is unknown.
    """
    total = np.zeros(len(labels))
    for attribute in attributes:
        groups = attribute.groups_of(labels).astype(object)
        counts = groups.value_counts()
        total += (counts.sum() / (len(counts) * groups.map(counts))).fillna(1.0).to_numpy(float)
    return total / total.mean()


class Batches(Dataset):
    """Whole batches by their rows: image, row, and a float column per attribute, in which nan and -1 are unknown.

    Images, labels and `image_ids` (for messages) have the same rows.
    """

    def __init__(self, images: FaceImages, labels: pd.DataFrame, image_ids: np.ndarray | None = None):
        self.images, self.image_ids = images, image_ids
        self.labels = {name: torch.tensor(labels[name].to_numpy(), dtype=torch.float32) for name in labels}

    def __getitem__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """One batch; images float (n, 3, px, px), 0 to 1."""
        index = torch.as_tensor(rows)
        return {
            "image": as_tensor(self.images[np.asarray(rows)]),
            "row": index,
            **{name: value[index] for name, value in self.labels.items()},
        }

    def name_rows(self, rows: list[int]) -> list[str]:
        """The image_ids of some rows, or their numbers where no ids were given."""
        return [str(row if self.image_ids is None else self.image_ids[row]) for row in rows]


class EpochBatches(Sampler):
    """Rows of each training batch, shuffled by seed and epoch, so that a resumed epoch sees the same order.

    Several processes share every batch. With `weights`, one per entry of `rows`, rows are drawn with replacement in
    proportion to them; without, every row comes once an epoch.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, weights: np.ndarray | None = None):
        self.rows, self.batch_size, self.seed, self.epoch = np.asarray(rows), batch_size, seed, 0
        self.weights = None if weights is None else np.asarray(weights) / np.sum(weights)

    def set_epoch(self, epoch: int) -> None:
        """Called by lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        # A short last batch would give batch normalisation a noisy estimate; its rows come next epoch.
        return max(1, len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rows = self.rows
        rows = rng.permutation(rows) if self.weights is None else rng.choice(rows, len(rows), p=self.weights)
        rank, world = rank_and_world()
        for batch in range(len(self)):
            yield rows[batch * self.batch_size : (batch + 1) * self.batch_size][rank::world].tolist()
