"""Training with lightning: batches from the pixel cache, the loss, the schedule, checkpoints."""

import hashlib
import logging
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from facelib.config import Profile
from facelib.data import FaceImages
from facelib.errors import FacelibError
from facelib.models.augmentation import augment
from facelib.models.network import FaceNet, as_tensor
from facelib.runs import atomic_path, write_text
from facelib.schema import ATTRIBUTES, UNKNOWN


class TrainingDiverged(FacelibError):
    """A loss that is not finite."""


def has_fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: a CUDA device, or a processor with AVX512-BF16 or AMX."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check)


class Batches(Dataset):
    """Whole batches by their rows: image, row, and each column of `labels`."""

    def __init__(self, images: FaceImages, labels: pd.DataFrame):
        self.images = images
        self.labels = {name: torch.tensor(labels[name].to_numpy(), dtype=torch.float32) for name in labels}

    def __getitem__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """One batch; images float (n, 3, px, px), 0 to 1."""
        index = torch.as_tensor(rows)
        return {
            "image": as_tensor(self.images[np.asarray(rows)]),
            "row": index,
            **{name: value[index] for name, value in self.labels.items()},
        }


class EpochBatches(Sampler):
    """Rows of each batch, shuffled by seed and epoch, so that a resumed epoch sees the same order."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int | None):
        self.rows, self.batch_size, self.seed, self.epoch = np.asarray(rows), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        n = len(self.rows)
        # A short last training batch would give batch normalisation a noisy estimate; its rows come next epoch.
        return max(1, n // self.batch_size) if self.seed is not None else math.ceil(n / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.rows
        if self.seed is not None:
            rows = np.random.default_rng([self.seed, self.epoch]).permutation(rows)
        for batch in range(len(self)):
            yield rows[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


def known_mean(loss: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean loss over rows with a known label; zero, with a gradient, where there is none."""
    return (torch.where(known, loss, 0.0)).sum() / known.sum().clamp(min=1)


def multitask_losses(outputs: dict, batch: dict, age_scale: float) -> dict[str, torch.Tensor]:
    """Absolute error of age in units of `age_scale` years, and cross entropies; unknown labels count nothing."""
    age_known = batch["age"].isfinite()
    age_error = (outputs["age"] - batch["age"].nan_to_num()).abs() / age_scale
    gender = F.binary_cross_entropy_with_logits(outputs["gender"], batch["gender"].clamp(min=0), reduction="none")
    ethnicity = F.cross_entropy(outputs["ethnicity"], batch["ethnicity"].clamp(min=0).long(), reduction="none")
    return {
        "age": known_mean(age_error, age_known),
        "gender": known_mean(gender, batch["gender"] != UNKNOWN),
        "ethnicity": known_mean(ethnicity, batch["ethnicity"] != UNKNOWN),
    }


class FaceModule(lightning.LightningModule):
    """One network in training: augmentation, the sum of its losses, AdamW, warm-up and cosine.

    Parameters
    ----------
    network : nn.Module
        Called with images; has `backbone`.
    losses : callable
        Losses by name from outputs and batch; their sum is minimised.
    profile : Profile
    epochs, learning_rate
        Of this training.
    frozen_epochs : int
        Epochs in which the backbone stays as it is.
    """

    def __init__(self, network, losses, profile: Profile, epochs: int, learning_rate: float, frozen_epochs: int = 0):
        super().__init__()
        self.network, self.losses, self.profile = network, losses, profile
        self.epochs, self.learning_rate, self.frozen_epochs = epochs, learning_rate, frozen_epochs

    def on_train_epoch_start(self) -> None:
        """Hold the backbone, batch statistics included, while only the output layers learn."""
        frozen = self.current_epoch < self.frozen_epochs
        self.network.backbone.requires_grad_(not frozen)
        self.network.backbone.train(not frozen)

    def training_step(self, batch: dict, _) -> torch.Tensor:
        """Loss of one augmented batch."""
        generator = torch.Generator().manual_seed(self.profile.seed * 1_000_003 + self.global_step)
        with torch.autocast(self.device.type, enabled=False):
            images = augment(batch["image"], generator).contiguous(memory_format=torch.channels_last)
        # Dropout draws from the global generator; tied to the step, it is the same after a resume.
        torch.manual_seed(self.profile.seed * 1_000_003 + self.global_step)
        losses = self.losses(self.network(images), batch)
        total = sum(losses.values())
        if not torch.isfinite(total):
            raise TrainingDiverged(
                f"the loss is not finite at step {self.global_step} (rows {batch['row'].tolist()[:8]} ...): "
                f"use a learning_rate below {self.learning_rate:g}"
            )
        self._log("train", losses, total, len(images))
        return total

    def validation_step(self, batch: dict, _) -> None:
        """Losses of one validation batch."""
        losses = self.losses(self.network(batch["image"]), batch)
        self._log("validation", losses, sum(losses.values()), len(batch["image"]))

    def _log(self, stage: str, losses: dict, total: torch.Tensor, n: int) -> None:
        values = {f"{stage}_{name}": loss for name, loss in losses.items()} | {f"{stage}_loss": total}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=n)

    def configure_optimizers(self) -> dict:
        """AdamW without decay of biases and batch-norm scales; linear warm-up, then cosine to zero, by step."""
        parameters = list(self.network.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.profile.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, total * min(self.profile.warmup_epochs, self.epochs // 2) // self.epochs)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / max(1, total - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Epochs(lightning.Callback):
    """Losses of every epoch, kept in the checkpoint so that a resumed training knows them all, and a progress bar."""

    def __init__(self, log_path: Path):
        self.log_path, self.rows, self.bar = log_path, [], None

    def state_dict(self) -> dict:
        """What the checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        """Take up the epochs of a checkpoint."""
        self.rows = state["rows"]

    def on_train_start(self, trainer, module) -> None:
        """Begin the bar where a resumed training goes on."""
        self.bar = tqdm(total=trainer.max_epochs, initial=len(self.rows), unit="epoch", mininterval=1)

    def on_train_epoch_end(self, trainer, module) -> None:
        """Note the epoch's losses."""
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows = [*self.rows, {"epoch": trainer.current_epoch, **losses}]
        with atomic_path(self.log_path) as partial:
            self.table().to_csv(partial, index=False)
        self.bar.set_postfix({name: f"{losses[name]:.3f}" for name in losses if name.endswith("_loss")})
        self.bar.update()

    def on_train_end(self, trainer, module) -> None:
        """Leave the finished bar."""
        self.bar.close()

    def table(self) -> pd.DataFrame:
        """One row per epoch: epoch, train_<loss>, validation_<loss>."""
        return pd.DataFrame(self.rows)


def training_key(module: FaceModule, batches: Batches, *rows: np.ndarray | None) -> str:
    """A digest of what a training is made of, so that a checkpoint of another one is not resumed."""
    digest = hashlib.sha256(repr((module.profile, module.epochs, module.learning_rate, module.frozen_epochs)).encode())
    for values in [*batches.labels.values(), *rows]:
        digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def fit(
    module: FaceModule,
    batches: Batches,
    train_rows: np.ndarray,
    validation_rows: np.ndarray | None = None,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Train a module in place.

    Parameters
    ----------
    module : FaceModule
    batches : Batches
    train_rows, validation_rows : int arrays
        Rows of `batches`.
    folder : Path, optional
        Where an unfinished training keeps its checkpoints; called again with the same labels, rows and settings it
        goes on from there. With a folder, validation rows are needed, training stops early, and the weights of the
        epoch with the lowest validation loss are kept. Without one, all epochs are trained, silently, and the last
        weights stay.

    Returns
    -------
    DataFrame
        One row per epoch: epoch, train_<loss>, validation_<loss>. Empty without a folder.
    """
    torch.manual_seed(module.profile.seed)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    module.network.to(memory_format=torch.channels_last)
    loaders = [_loader(batches, train_rows, module.profile.batch_size, module.profile.seed)]
    if folder is None:
        _trainer(module, []).fit(module, *loaders)
        module.network.eval()
        return pd.DataFrame()
    loaders.append(_loader(batches, validation_rows, module.profile.batch_size, None))
    key = training_key(module, batches, train_rows, validation_rows)
    if folder.exists() and (not (folder / "key").exists() or (folder / "key").read_text() != key):
        shutil.rmtree(folder)
    write_text(folder / "key", key)
    settings = {"enable_version_counter": False, "save_on_train_epoch_end": True}
    best = ModelCheckpoint(folder, "best", monitor="validation_loss", **settings)
    # A callback of its own: with `save_last` an epoch that is not the best so far would leave nothing to resume.
    latest = ModelCheckpoint(folder, "last", **settings)
    epochs = Epochs(folder.parent / f"{folder.name}_log.csv")
    stopping = EarlyStopping("validation_loss", patience=module.profile.patience)
    last = folder / "last.ckpt"
    _trainer(module, [epochs, stopping, best, latest]).fit(
        module, *loaders, ckpt_path=str(last) if last.exists() else None, weights_only=True
    )
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    module.network.eval()
    shutil.rmtree(folder)  # a training that is finished has nothing to resume
    return epochs.table()


def _loader(batches: Batches, rows: np.ndarray, batch_size: int, seed: int | None) -> DataLoader:
    """Batches of some rows: shuffled by the seed for training, in order without one."""
    return DataLoader(batches, sampler=EpochBatches(rows, batch_size, seed), batch_size=None)


def _trainer(module: FaceModule, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    """A trainer without the messages that would only litter a notebook."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # Batches are made whole, and scorers do without validation: no news.
    no_news = "num_workers|log_every_n_steps|litmodels|exists and is not empty|defined a `val|treespec"
    warnings.filterwarnings("ignore", message=f".*({no_news}).*")
    return lightning.Trainer(
        max_epochs=module.epochs,
        # bfloat16 products are worth their lower precision in speed; losses and weights stay in float32.
        precision="bf16-mixed" if has_fast_bfloat16() else "32-true",
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
    )


def train_multitask(
    images: FaceImages,
    labels: pd.DataFrame,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    profile: Profile,
    folder: Path,
) -> tuple[FaceNet, pd.DataFrame]:
    """Train the age, gender and ethnicity network.

    With start weights the output layers learn first, for `profile.head_epochs`, then all layers.

    Parameters
    ----------
    images : FaceImages
    labels : DataFrame
        age, gender and ethnicity by row of `images`.
    train_rows, validation_rows : int arrays
    profile : Profile
    folder : Path
        For checkpoints and log.

    Returns
    -------
    FaceNet
        With the weights of the epoch with the lowest validation loss.
    DataFrame
        Losses by epoch; age in years.
    """
    network = new_network(labels, train_rows, profile)
    frozen = profile.head_epochs if profile.start_weights != "none" else 0
    module = FaceModule(
        network, _multitask_loss(network.age_std), profile, profile.epochs, profile.learning_rate, frozen
    )
    history = fit(module, Batches(images, labels[list(ATTRIBUTES)]), train_rows, validation_rows, folder)
    for stage in ("train", "validation"):
        history[f"{stage}_age"] *= network.age_std
    return network, history


def new_network(labels: pd.DataFrame, train_rows: np.ndarray, profile: Profile) -> FaceNet:
    """A network with the profile's start weights, its age output centred on the training ages."""
    torch.manual_seed(profile.seed)
    ages = labels["age"].to_numpy()[train_rows]
    known = ages[np.isfinite(ages)]
    centre = {"age_mean": float(np.median(known)), "age_std": float(max(known.std(), 1.0))} if len(known) else {}
    network = FaceNet(profile.architecture, **centre)
    network.backbone.load_start_weights(profile.start_weights)
    return network


def _multitask_loss(age_std: float):
    """The multitask losses with age in units of the training ages' standard deviation."""
    return lambda outputs, batch: multitask_losses(outputs, batch, age_std)


def train_scorer(images: FaceImages, labels: pd.DataFrame, rows: np.ndarray, profile: Profile) -> FaceNet:
    """A shorter training for label scoring: a fixed number of epochs, since no row may decide when it stops."""
    network = new_network(labels, rows, profile)
    losses = _multitask_loss(network.age_std)
    module = FaceModule(network, losses, profile, profile.label_epochs, profile.learning_rate)
    fit(module, Batches(images, labels[list(ATTRIBUTES)]), rows)
    return network
