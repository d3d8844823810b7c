"""Training with lightning: batches from the pixel cache, the loss, the schedule, checkpoints."""

import dataclasses
import hashlib
import inspect
import logging
import math
import os
import shutil
import time
import warnings
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from facelib.config import MIN_PX, Profile
from facelib.data.pixels import FaceImages
from facelib.errors import DamagedRun, FacelibError, UnknownSetting
from facelib.models.augmentation import AUGMENTATIONS, Draws, augment
from facelib.models.batches import Batches, EpochBatches, InOrder, rank_and_world, rarity
from facelib.models.losses import OPINIONS, multitask_losses
from facelib.models.network import FaceNet, scale
from facelib.runs import write_csv
from facelib.schema import ATTRIBUTES, UNKNOWN
from facelib.storage import atomic_path, write_text

MULTITASK_FOLDER = "checkpoints/multitask"  # of a run: where `facelib train` leaves what notebook 03 takes up
FINISHED = "finished.ckpt"  # weights and losses of a training that reached its end
# What a training reads of a profile beside its number of epochs and its learning rate, which differ by network.
READ_BY_TRAINING = (
    "seed",
    "image_px",
    "batch_size",
    "start_weights",
    "recipe",
    "learned",
    "architecture",
    "stem",
    "input_px",
    "grey",
    "age_head",
    "dropout",
    "optimizer",
    "weight_decay",
    "warmup_epochs",
    "patience",
    "average_decay",
    "low_px_share",
    "augmentation",
    "augmented_epochs",
    "rarer_stronger",
    "sampler",
    "label_smoothing",
    "opinion_share",
)
STRENGTHS = (0.75, 2.0)  # factors of the changes to common and to rare faces, where those are changed more


class TrainingDiverged(FacelibError):
    """A loss that is not finite."""


def has_fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: a CUDA device, or a processor with AVX512-BF16 or AMX."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check)


class FaceModule(lightning.LightningModule):
    """One network in training: augmentation, the sum of its losses, the optimizer, warm-up and cosine.

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

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """Images at the edge of this epoch: the first epochs see smaller ones, which cost less."""
        low = low_px(images.shape[-1])
        return scale(images, low) if self.current_epoch < round(self.profile.low_px_share * self.epochs) else images

    def training_step(self, batch: dict, _) -> torch.Tensor:
        """Loss of one augmented batch."""
        seed = self.profile.seed * 1_000_003 + self.global_step
        rank, world = rank_and_world()
        draws = Draws(torch.Generator().manual_seed(seed), len(batch["image"]), rank, world)
        limits = AUGMENTATIONS[self.profile.augmentation].scaled(min(1, self.epochs / self.profile.augmented_epochs))
        with torch.autocast(self.device.type, enabled=False):
            images = augment(self.scaled(batch["image"]), draws, limits, batch.get("strength"))
        # Dropout draws from the global generator; tied to the step, it is the same after a resume.
        torch.manual_seed(seed + rank)
        outputs = self.network(in_memory_format(images))
        losses = self.losses(outputs, batch)
        total = sum(losses.values())
        if not torch.isfinite(total):
            ids = ", ".join(self.trainer.train_dataloader.dataset.name_rows(batch["row"].tolist()))
            raise TrainingDiverged(
                f"the loss is not finite at step {self.global_step} (images {ids}): "
                f"use a learning_rate below {self.learning_rate:g}"
            )
        self._log("train", losses, outputs, batch)
        return total

    def validation_step(self, batch: dict, _) -> None:
        """Losses of one validation batch."""
        outputs = self.network(in_memory_format(self.scaled(batch["image"])))
        self._log("validation", self.losses(outputs, batch), outputs, batch)

    def _log(self, stage: str, losses: dict, outputs: dict, batch: dict) -> None:
        values = losses | {"loss": sum(losses.values())}
        named = {f"{stage}_{name}": value for name, value in values.items()}
        settings = {"on_step": False, "on_epoch": True, "sync_dist": stage == "train" and rank_and_world()[1] > 1}
        self.log_dict(named, batch_size=len(batch["row"]), **settings)
        if "age" in outputs and (known := batch["age"].isfinite()).any():
            error = (outputs["age"][known] - batch["age"][known]).abs().mean()
            self.log(f"{stage}_mae", error, batch_size=int(known.sum()), **settings)

    def configure_optimizers(self) -> dict:
        """No decay of biases and batch-norm scales; linear warm-up, then cosine to zero, by step."""
        parameters = list(self.network.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.profile.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.profile.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=self.learning_rate, momentum=0.9, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, total * min(self.profile.warmup_epochs, self.epochs // 2) // self.epochs)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / max(1, total - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def low_px(px: int) -> int:
    """Two thirds of an edge, in whole sixteenths of pixels that a ResNet halves without a rest, and not below `MIN_PX`.

    Examples
    --------
    >>> low_px(96), low_px(64), low_px(32)
    (64, 48, 32)
    """
    return min(px, max(MIN_PX, round(px * 2 / 3 / 16) * 16))


def in_memory_format(images: torch.Tensor) -> torch.Tensor:
    """Images in channels-last memory, in which convolutions are fastest."""
    return images.contiguous(memory_format=torch.channels_last)


def weight_average(decay: float) -> WeightAveraging:
    """Running average of weights and batch statistics, validated and kept in place of the last ones.

    Early on it forgets faster, min(decay, (1 + n) / (10 + n)) after n updates, so that it holds nothing of the random
    start, however short the training.
    """

    def update(averages, current, updates) -> None:
        n = float(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, current, updates)

    # Said here, since lightning asks for the network's device before it moves it.
    card = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else None
    return WeightAveraging(device=card, multi_avg_fn=update)


class Stopping(EarlyStopping):
    """Early stopping that a resumed training remembers: one that had stopped does not go on."""

    def on_train_start(self, trainer, module) -> None:
        """Stop before the first step."""
        trainer.should_stop = self.wait_count >= self.patience


class Epochs(lightning.Callback):
    """Losses and time of every epoch, kept in the checkpoint so that a resumed training knows them, and a bar."""

    def __init__(self, log_path: Path):
        self.log_path, self.rows, self.bar = log_path, [], None
        self.seconds, self.begun = 0.0, 0.0

    def state_dict(self) -> dict:
        """What the checkpoint keeps."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        """Take up the epochs of a checkpoint."""
        self.rows, self.seconds = state["rows"], state["seconds"]

    def on_train_start(self, trainer, module) -> None:
        """Begin the bar where a resumed training goes on."""
        self.bar = tqdm(total=trainer.max_epochs, initial=len(self.rows), unit="epoch", mininterval=1)

    def on_train_epoch_start(self, trainer, module) -> None:
        """Look at the clock."""
        self.begun = time.perf_counter()

    def on_train_epoch_end(self, trainer, module) -> None:
        """Note the epoch's losses and time."""
        self.seconds += time.perf_counter() - self.begun
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows = [*self.rows, {"epoch": trainer.current_epoch, **losses}]
        if trainer.is_global_zero:
            write_csv(self.table(), self.log_path)
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
    settings = [(name, getattr(module.profile, name)) for name in READ_BY_TRAINING]
    digest = hashlib.sha256(repr((settings, module.epochs, module.learning_rate, module.frozen_epochs)).encode())
    start = [value.detach().cpu() for value in module.network.state_dict().values()]
    for values in [*start, *batches.labels.values(), *rows]:
        digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def fit(
    module: FaceModule,
    batches: Batches,
    train_rows: np.ndarray,
    validation_rows: np.ndarray | None = None,
    folder: Path | None = None,
    weights: np.ndarray | None = None,
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
        goes on from there, at the last epoch that was finished. A finished one leaves its weights and losses, which the
        same call takes up as long as the code that trains is the same. With a folder, validation rows are needed;
        training stops early, and the weights of the epoch with the lowest validation loss are kept, where the profile's
        `patience` says so. Without one, all epochs are trained, silently.
    weights : float array, optional
        By entry of `train_rows`; see `EpochBatches`.

    Returns
    -------
    DataFrame
        One row per epoch: epoch, train_<loss>, validation_<loss>. Empty without a folder.
    """
    profile = module.profile
    torch.manual_seed(profile.seed)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    module.network.train().to(memory_format=torch.channels_last)
    averages = [weight_average(profile.average_decay)] if profile.average_decay else []
    order = EpochBatches(train_rows, profile.batch_size, profile.seed, weights)
    loaders = [_loader(batches, order)]
    if folder is None:
        _trainer(module, averages).fit(module, *loaders)
        module.network.eval()
        return pd.DataFrame()
    loaders.append(_loader(batches, InOrder(validation_rows, profile.batch_size)))
    key = training_key(module, batches, train_rows, validation_rows, weights)
    last, marked, finished = folder / "last.ckpt", folder / "key", folder / FINISHED
    same = marked.exists() and marked.read_text() == key
    if same and finished.exists():
        result = load_checkpoint(finished)
        if result["code"] == training_code(module.network):
            module.network.load_state_dict(result["weights"])
            module.network.eval()
            return pd.DataFrame(result["epochs"])
    resumed = str(last) if same and last.exists() else None
    if resumed:
        # Said here, since worker processes begin an epoch before lightning says which one it is.
        order.set_epoch(load_checkpoint(last)["epoch"] + 1)
    if not same and rank_zero_only.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        write_text(marked, key)
    settings = {"enable_version_counter": False, "save_on_train_epoch_end": True}
    best = ModelCheckpoint(folder, "best", monitor="validation_loss", **settings)
    # A callback of its own: with `save_last` an epoch that is not the best so far would leave nothing to resume.
    latest = ModelCheckpoint(folder, "last", **settings)
    epochs = Epochs(folder.parent / f"{folder.name}_log.csv")
    early = [Stopping("validation_loss", patience=profile.patience), best] if profile.patience else []
    trainer = _trainer(module, [*averages, epochs, *early, latest])
    trainer.fit(module, *loaders, ckpt_path=resumed, weights_only=True)
    kept = best.best_model_path if profile.patience else last
    state = load_checkpoint(kept)["state_dict"]
    found = {name.removeprefix("network."): value for name, value in state.items()}
    module.network.load_state_dict(found)
    module.network.eval()
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        result = {"code": training_code(module.network), "weights": found}
        with atomic_path(finished) as partial:
            torch.save(result | {"epochs": epochs.rows, "seconds": epochs.seconds}, partial)
        for checkpoint in folder.glob("*.ckpt"):
            if checkpoint != finished:
                checkpoint.unlink()  # a training that is finished has nothing to resume
    return epochs.table()


def training_seconds(folder: Path) -> float:
    """How long the training took that `fit` finished in a folder, whenever that was: the sum of its epochs."""
    return load_checkpoint(folder / FINISHED)["seconds"]


def training_code(network: torch.nn.Module) -> str:
    """A digest of the code that trains a network: what it made before a change is not what it would make now."""
    modules = ("augmentation", "batches", "losses", "network", "training")
    files = [*(Path(__file__).with_name(f"{name}.py") for name in modules), Path(inspect.getfile(type(network)))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in dict.fromkeys(files))).hexdigest()


def load_checkpoint(checkpoint: Path) -> dict:
    """What a checkpoint holds; no code in it is run.

    Raises
    ------
    DamagedRun
        If it cannot be read.
    """
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the reader passes on whatever a damaged file makes it stumble over
        reason = f"{checkpoint} cannot be read ({type(error).__name__})"
        raise DamagedRun(f"{reason}: remove {checkpoint.parent}, and the training begins anew") from error


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear under their name only when they are whole."""

    def save_checkpoint(self, checkpoint: dict, path, storage_options=None) -> None:
        """Save atomically."""
        with atomic_path(Path(path)) as partial:
            torch.save(checkpoint, partial)


def _loader(batches: Batches, sampler: Sampler) -> DataLoader:
    """Batches by a sampler; on a graphics card made ahead, in memory that it can fetch from directly."""
    on_card = torch.cuda.is_available()
    workers = min(4, os.cpu_count() or 1) if on_card else 0
    return DataLoader(
        batches, sampler=sampler, batch_size=None, num_workers=workers, pin_memory=on_card, persistent_workers=on_card
    )


def _trainer(module: FaceModule, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    """A trainer without the messages that would only litter a notebook; under torchrun one of several processes."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # Batches are made whole, and scorers do without validation: no news.
    no_news = "num_workers|log_every_n_steps|litmodels|exists and is not empty|defined a `val|treespec"
    warnings.filterwarnings("ignore", message=f".*({no_news}).*")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    world = int(os.environ.get("WORLD_SIZE", 1))
    if module.profile.batch_size % world:
        raise UnknownSetting(
            f"batch_size {module.profile.batch_size} cannot be shared out evenly among {world} processes"
        )
    return lightning.Trainer(
        max_epochs=module.epochs,
        # bfloat16 products are worth their lower precision in speed; losses and weights stay in float32.
        precision="bf16-mixed" if has_fast_bfloat16() else "32-true",
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=local,
        num_nodes=world // local,
        strategy="ddp_find_unused_parameters_true" if world > 1 else "auto",
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
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
    image_ids: np.ndarray | None = None,
    opinions: pd.DataFrame | None = None,
) -> tuple[FaceNet, pd.DataFrame]:
    """Train the age, gender and ethnicity network by the profile's recipe.

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
    image_ids : array of str, optional
        By row of `images`, for messages.
    opinions : DataFrame, optional
        From `out_of_fold.opinions_table`, by row of `images`; learned beside the labels by the profile's
        `opinion_share`.

    Returns
    -------
    FaceNet
        With the last (averaged) weights, or those of the epoch with the lowest validation loss; see `fit`.
    DataFrame
        Losses by epoch, and the mean absolute error of age in years.
    """
    network = new_network(labels, train_rows, profile)
    frozen = profile.head_epochs if profile.start_weights != "none" else 0
    module = FaceModule(network, _losses(network, profile), profile, profile.epochs, profile.learning_rate, frozen)
    columns, rare = learned_labels(labels, profile), rarity(labels.iloc[train_rows])
    if profile.rarer_stronger:
        columns["strength"] = 1.0
        columns.iloc[train_rows, -1] = np.sqrt(rare).clip(*STRENGTHS)
    if opinions is not None and profile.opinion_share:
        columns[list(OPINIONS)] = opinions[list(OPINIONS)].to_numpy()
    weights = rare if profile.sampler == "balanced" else None
    batches = Batches(images, columns, image_ids)
    history = fit(module, batches, train_rows, validation_rows, folder, weights)
    return network, history


def kept_epoch(history: pd.DataFrame, profile: Profile) -> int:
    """The epoch, counted from 0, whose weights `fit` left in the network."""
    return int(history["validation_loss"].idxmin() if profile.patience else history.index[-1])


def learned_labels(labels: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The labels of all attributes, those unknown that the profile does not learn."""
    columns = labels[list(ATTRIBUTES)].astype(float)
    for name in set(ATTRIBUTES) - set(profile.learned.split()):
        columns[name] = np.nan if name == "age" else UNKNOWN
    return columns


def new_network(labels: pd.DataFrame, train_rows: np.ndarray, profile: Profile) -> FaceNet:
    """A network with the profile's start weights, its age output centred on the training ages."""
    torch.manual_seed(profile.seed)
    ages = labels["age"].to_numpy()[train_rows]
    known = ages[np.isfinite(ages)]
    centre = {"age_mean": float(np.median(known)), "age_std": float(max(known.std(), 1.0))} if len(known) else {}
    network = FaceNet(
        profile.architecture,
        profile.stem,
        profile.input_px,
        profile.grey,
        profile.age_head,
        dropout=profile.dropout,
        **centre,
    )
    network.backbone.load_start_weights(profile.start_weights)
    return network


def _losses(network: FaceNet, profile: Profile):
    """The multitask losses with age in units of the training ages' standard deviation."""
    return lambda outputs, batch: multitask_losses(
        outputs, batch, network.age_std, profile.label_smoothing, profile.opinion_share
    )


def train_scorer(images: FaceImages, labels: pd.DataFrame, rows: np.ndarray, profile: Profile) -> FaceNet:
    """A shorter training for label scoring: a fixed number of epochs, since no row may decide when it stops.

    It begins from random weights, or from ImageNet's: those of a file or a run may have seen the rows that it scores.
    """
    if profile.start_weights != "imagenet":
        profile = dataclasses.replace(profile, start_weights="none")
    network = new_network(labels, rows, profile)
    module = FaceModule(network, _losses(network, profile), profile, profile.label_epochs, profile.learning_rate)
    fit(module, Batches(images, labels[list(ATTRIBUTES)]), rows)
    return network
