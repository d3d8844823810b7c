"""The folder of a training: after each epoch a checkpoint to resume from, at the end its result.

Loading runs no code of a file.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from facelib.errors import DamagedRun
from facelib.storage import atomic_path, write_text

# Raise it with every change of code after which the same settings, seed and data train to weights that differ by more
# than machines do in rounding: finished and interrupted trainings of earlier versions are then repeated.
TRAINING_VERSION = 2


def load_checkpoint(path: Path) -> dict:
    """What a checkpoint holds; DamagedRun if it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file can raise anything in its reader
        reason = f"{path} cannot be read ({type(error).__name__})"
        raise DamagedRun(f"{reason}: remove {path.parent} to repeat the training") from error


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear under their name only when they are complete."""

    def save_checkpoint(self, checkpoint: dict, path, storage_options=None) -> None:
        with atomic_path(Path(path)) as partial:
            torch.save(checkpoint, partial)


@dataclass(frozen=True)
class Trained:
    """The result of a finished training: weights by name, losses by epoch, and the sum of its epochs' seconds."""

    weights: dict[str, torch.Tensor]
    epochs: list[dict]
    seconds: float


class TrainingFolder:
    """One training's files; `key` is a digest of everything that decides on the result, and marks them as its own."""

    def __init__(self, path: Path, key: str):
        self.path, self.key = path, key
        self.last, self.best, self.finished = (path / f"{name}.ckpt" for name in ("last", "best", "finished"))

    def _is_this_training(self) -> bool:
        stored = self.path / "key"
        return stored.exists() and stored.read_text() == self.key

    def result(self) -> Trained | None:
        """What the finished training left, if there is one."""
        return load_result(self.path) if self._is_this_training() and self.finished.exists() else None

    def resume_point(self) -> Path | None:
        """The checkpoint of the last completed epoch, if there is one; removes the files of another training."""
        if self._is_this_training():
            return self.last if self.last.exists() else None
        if rank_zero_only.rank == 0:
            shutil.rmtree(self.path, ignore_errors=True)
            write_text(self.path / "key", self.key)
        return None

    def finish(self, trained: Trained) -> None:
        """Save the result and remove what an unfinished training would resume from."""
        with atomic_path(self.finished) as partial:
            torch.save(vars(trained), partial)
        for checkpoint in self.path.glob("*.ckpt"):
            if checkpoint != self.finished:
                checkpoint.unlink()


def load_result(path: Path) -> Trained:
    """The result of the training that was finished in a folder."""
    return Trained(**load_checkpoint(path / "finished.ckpt"))
