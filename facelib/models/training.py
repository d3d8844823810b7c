"""Training with lightning: batches from the pixel cache, losses, schedule, exact resume.

Making a batch adds 2 to 7 % to the network's step on two cores (`python -m benchmarks.training_step`). A training that
is killed resumes to the same weights, bit for bit on as many threads (`python -m benchmarks.kills`).
"""

import hashlib
import logging
import math
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import BatchSampler, DataLoader, Sampler
from tqdm import tqdm

from facelib.config import Settings, TrainingSettings
from facelib.data.pixels import FaceImages
from facelib.devices import has_fast_bfloat16, keep_freed_memory, threads_beside_others
from facelib.errors import FacelibError, UnknownSetting
from facelib.formats import write_csv
from facelib.models.augmentation import AUGMENTATIONS, BatchRandom, augment
from facelib.models.batches import Batches, EpochBatches, class_weights, rank_and_world
from facelib.models.checkpoints import TRAINING_VERSION, Trained, TrainingFolder, WholeCheckpoints, load_checkpoint
from facelib.models.network import FaceNet
from facelib.schema import Attribute, YearsAttribute, label_columns

MULTITASK_FOLDER = "checkpoints/multitask"  # of a run: where `facelib train` leaves what notebook 03 loads
Losses = Callable[[dict, dict], dict[str, torch.Tensor]]  # by name, from outputs and batch
STRENGTHS = (0.75, 2.0)  # least and largest factor of augmentation, where rarer groups are augmented more


class TrainingDiverged(FacelibError):
    """A loss that is not finite."""


class FaceModule(lightning.LightningModule):
    """One network in training: augmentation, the sum of its losses, AdamW, warm-up and cosine.

    The network has `backbone` and `attributes`. The whole backbone is frozen for `frozen_epochs`, then its first
    `frozen_stages`.
    """

    def __init__(
        self, network, losses: Losses, training: TrainingSettings, seed, epochs, learning_rate, frozen_epochs=0
    ):
        super().__init__()
        self.network, self.losses, self.settings, self.seed = network, losses, training, seed
        self.epochs, self.learning_rate, self.frozen_epochs = epochs, learning_rate, frozen_epochs

    def on_train_epoch_start(self) -> None:
        stages = self.network.backbone.stages()
        frozen = len(stages) if self.current_epoch < self.frozen_epochs else self.settings.frozen_stages
        for number, stage in enumerate(stages):
            # What is frozen keeps its batch statistics, too.
            stage.requires_grad_(number >= frozen).train(number >= frozen)

    def training_step(self, batch: dict, _) -> torch.Tensor:
        seed = self.seed * 1_000_003 + self.global_step
        rank, world = rank_and_world()
        random = BatchRandom(torch.Generator().manual_seed(seed), len(batch["image"]), rank, world)
        limits = AUGMENTATIONS[self.settings.augmentation].scaled(min(1, self.epochs / self.settings.augmented_epochs))
        with torch.autocast(self.device.type, enabled=False):
            images = augment(batch["image"], random, limits, batch.get("strength"))
        # Dropout draws from the global generator; seeded by the step, it is the same after a resume.
        torch.manual_seed(seed + rank)
        outputs = self.network(channels_last(images))
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
        outputs = self.network(channels_last(batch["image"]))
        self._log("validation", self.losses(outputs, batch), outputs, batch)

    def _log(self, stage: str, losses: dict, outputs: dict, batch: dict) -> None:
        named = {f"{stage}_{name}": value for name, value in {**losses, "loss": sum(losses.values())}.items()}
        options = {"on_step": False, "on_epoch": True, "sync_dist": stage == "train" and rank_and_world()[1] > 1}
        self.log_dict(named, batch_size=len(batch["row"]), **options)
        for attribute in self.network.attributes:
            name = attribute.name
            if isinstance(attribute, YearsAttribute) and (known := batch[name].isfinite()).any():
                error = (outputs[name][known] - batch[name][known]).abs().mean()
                self.log(f"{stage}_{name}_mae", error, batch_size=int(known.sum()), **options)

    def configure_gradient_clipping(self, *_, **__) -> None:
        """Clip the norm at 1 here, because lightning refuses to clip for a fused optimizer."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)

    def configure_optimizers(self) -> dict:
        """No decay of biases and scales; smaller rates of earlier stages; warm-up, then cosine to zero, by step."""
        backwards, settings = reversed(self.network.backbone.stages()), self.settings
        parts = [(part, settings.backbone_rate * settings.layer_decay**depth) for depth, part in enumerate(backwards)]
        groups = [
            {
                "params": [p for p in part.parameters() if (p.ndim > 1) == decays],
                "weight_decay": settings.weight_decay if decays else 0.0,
                "lr": self.learning_rate * factor,
            }
            for part, factor in [*parts, (self.network.heads, 1.0)]
            for decays in (True, False)
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, fused=True)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, total * min(self.settings.warmup_epochs, self.epochs // 2) // self.epochs)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / max(1, total - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """Images in channels-last memory, in which convolutions are fastest."""
    return images.contiguous(memory_format=torch.channels_last)


def weight_average(decay: float) -> WeightAveraging:
    """Running average of weights and batch statistics, which is validated and saved in place of the last weights."""

    def update(averages, current, updates) -> None:
        n = float(updates)  # with a smaller decay at first, short trainings keep nothing of their random start
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, current, updates)

    # Named here, because lightning asks for the network's device before it moves the network.
    card = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else None
    return WeightAveraging(device=card, multi_avg_fn=update)


class Stopping(EarlyStopping):
    """Early stopping that holds after a resume: a training that had stopped trains no further step."""

    def on_train_start(self, trainer, module) -> None:
        trainer.should_stop = self.wait_count >= self.patience


class Epochs(lightning.Callback):
    """Losses and seconds of every epoch, stored in the checkpoint for a resume, and a progress bar."""

    def __init__(self, log_path: Path):
        self.log_path, self.rows, self.bar = log_path, [], None
        self.seconds, self.started = 0.0, 0.0

    def state_dict(self) -> dict:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self.rows, self.seconds = state["rows"], state["seconds"]

    def on_train_start(self, trainer, module) -> None:
        self.bar = tqdm(total=trainer.max_epochs, initial=len(self.rows), unit="epoch", mininterval=1)

    def on_train_epoch_start(self, trainer, module) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer, module) -> None:
        self.seconds += time.perf_counter() - self.started
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows = [*self.rows, {"epoch": trainer.current_epoch, "threads": torch.get_num_threads(), **losses}]
        if trainer.is_global_zero:
            write_csv(pd.DataFrame(self.rows), self.log_path)
        self.bar.set_postfix({name: f"{losses[name]:.3f}" for name in losses if name.endswith("_loss")})
        self.bar.update()

    def on_train_end(self, trainer, module) -> None:
        self.bar.close()


class SparingThreads(lightning.Callback):
    """Fewer threads for an epoch beside programs that use a core, unless OMP_NUM_THREADS says how many.

    The gradients of bfloat16 convolutions are added up by threads that wait for each other without sleeping: where one
    of them has lost its core, an epoch on two threads takes many times as long as on one.
    """

    def on_fit_start(self, trainer, module) -> None:
        self.threads = torch.get_num_threads()

    def on_train_epoch_start(self, trainer, module) -> None:
        torch.set_num_threads(self.threads)
        torch.set_num_threads(threads_beside_others())

    def teardown(self, trainer, module, stage) -> None:
        torch.set_num_threads(self.threads)

    def on_exception(self, trainer, module, exception) -> None:
        torch.set_num_threads(self.threads)


def training_key(module: FaceModule, batches: Batches, *rows: np.ndarray | None) -> str:
    """A digest of everything that decides on the result of a training: version, settings, start, labels and rows."""
    facts = {
        "version": TRAINING_VERSION,
        "training": module.settings.model_dump(),
        "image_px": batches.images.px,
        "attributes": [attribute.to_dict() for attribute in module.network.attributes],
    } | {name: getattr(module, name) for name in ("seed", "epochs", "learning_rate", "frozen_epochs")}
    digest = hashlib.sha256(repr(facts).encode())
    start = [value.detach().cpu() for value in module.network.state_dict().values()]
    for values in [*start, *batches.labels.values(), *rows]:
        digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def fit(module: FaceModule, batches: Batches, rows: np.ndarray) -> None:
    """Train a module in place on some rows of `batches` for all its epochs: without validation, log and bar."""
    _trainer(module, []).fit(module, _loader(batches, _prepared(module, rows)))
    module.network.eval()


def fit_in_folder(
    module: FaceModule, batches: Batches, train_rows, validation_rows, path: Path, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """Train a module in place, resume its training at the last completed epoch, or load its finished result.

    With `patience` it stops early and keeps the weights of the epoch with the lowest validation loss. For `weights`
    see `EpochBatches`. Returns a row per epoch, also written to <path>_log.csv: epoch, train_<loss>, validation_<loss>.
    """
    folder = TrainingFolder(path, training_key(module, batches, train_rows, validation_rows, weights))
    if trained := folder.result():
        module.network.load_state_dict(trained.weights)
        module.network.eval()
        return pd.DataFrame(trained.epochs)
    order, resumed = _prepared(module, train_rows, weights), folder.resume_point()
    if resumed:
        # Set here, because worker processes begin an epoch before lightning names it.
        order.set_epoch(load_checkpoint(resumed)["epoch"] + 1)
    epochs, patience = Epochs(path.parent / f"{path.name}_log.csv"), module.settings.patience
    options = {"enable_version_counter": False, "save_on_train_epoch_end": True}
    best = ModelCheckpoint(path, folder.best.stem, monitor="validation_loss", **options)
    # A callback of its own: with `save_last` an epoch that is not the best would leave nothing to resume.
    latest = ModelCheckpoint(path, folder.last.stem, **options)
    early = [Stopping("validation_loss", patience=patience), best] if patience else []
    trainer = _trainer(module, [epochs, *early, latest])
    # Every process sees all validation rows, in their order.
    in_order = BatchSampler(np.asarray(validation_rows).tolist(), module.settings.batch_size, drop_last=False)
    loaders = _loader(batches, order), _loader(batches, in_order)
    trainer.fit(module, *loaders, ckpt_path=resumed, weights_only=True)
    state = load_checkpoint(folder.best if patience else folder.last)["state_dict"]
    state = {name.removeprefix("network."): value for name, value in state.items()}
    module.network.load_state_dict(state)
    module.network.eval()
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        folder.finish(Trained(state, epochs.rows, epochs.seconds))
    return pd.DataFrame(epochs.rows)


def _prepared(module: FaceModule, rows: np.ndarray, weights: np.ndarray | None = None) -> EpochBatches:
    """Seed and set up the network for training; the order of its batches."""
    torch.manual_seed(module.seed)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    module.network.train().to(memory_format=torch.channels_last)
    return EpochBatches(rows, module.settings.batch_size, module.seed, weights)


def _loader(batches: Batches, sampler: Sampler) -> DataLoader:
    """Batches by a sampler; with a GPU prefetched by workers into pinned memory."""
    workers = {"num_workers": min(4, os.cpu_count() or 1), "pin_memory": True, "persistent_workers": True}
    return DataLoader(batches, sampler=sampler, batch_size=None, **(workers if torch.cuda.is_available() else {}))


def learns_in_bfloat16(network: torch.nn.Module) -> bool:
    """Whether a network with a `Backbone` is trained with bfloat16 products on this machine."""
    return has_fast_bfloat16() and (network.backbone.bfloat16 or torch.cuda.is_available())


def _trainer(module: FaceModule, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    """A trainer without lightning's messages; under torchrun one of several processes."""
    keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # Known and intended: batches are made whole, and scorers have no validation.
    intended = "num_workers|log_every_n_steps|litmodels|exists and is not empty|defined a `val|treespec"
    warnings.filterwarnings("ignore", message=f".*({intended}).*")
    local, world = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    averages = [weight_average(module.settings.average_decay)] if module.settings.average_decay else []
    if module.settings.batch_size % world:
        raise UnknownSetting(f"batch_size {module.settings.batch_size} cannot be divided among {world} processes")
    chosen = "OMP_NUM_THREADS" in os.environ or world > 1 or torch.cuda.is_available()
    sparing = [] if chosen else [SparingThreads()]
    switched_off = ("logger", "enable_progress_bar", "enable_model_summary", "use_distributed_sampler")
    return lightning.Trainer(
        max_epochs=module.epochs,
        # bfloat16 products for speed; losses and weights stay in float32.
        precision="bf16-mixed" if learns_in_bfloat16(module.network) else "32-true",
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=local,
        num_nodes=world // local,
        strategy="ddp_find_unused_parameters_true" if world > 1 else "auto",
        callbacks=[*averages, *sparing, *callbacks],
        plugins=[WholeCheckpoints()],
        enable_checkpointing=bool(callbacks),
        num_sanity_val_steps=0,
        **dict.fromkeys(switched_off, False),
    )


def train_multitask(
    images: FaceImages, labels: pd.DataFrame, train_rows, validation_rows, attributes: tuple[Attribute, ...],
    settings: Settings, folder: Path, image_ids: np.ndarray | None = None,
) -> tuple[FaceNet, pd.DataFrame]:  # fmt: skip
    """Train the multitask network on a column of labels per attribute; see `fit_in_folder`.

    With start weights only the output layers are trained for `head_epochs`, then all layers. The `image_ids` are for
    messages. Losses by epoch have also `<stage>_<attribute>_mae` in years.
    """
    training, columns = settings.training, learned_labels(labels, attributes)
    weights = class_weights(labels.iloc[train_rows], attributes)
    if training.rarer_stronger:
        columns["strength"] = 1.0
        columns.iloc[train_rows, -1] = np.sqrt(weights).clip(*STRENGTHS)
    network = new_network(labels, train_rows, attributes, training, settings.seed)
    frozen = training.head_epochs if training.start_weights != "none" else 0
    module = _module(network, training, settings.seed, training.epochs, frozen)
    drawn = {
        "uniform": lambda: None,
        "balanced": lambda: weights,
        "sources": lambda: source_weights(labels, train_rows),
    }
    batches = Batches(images, columns, image_ids)
    return network, fit_in_folder(module, batches, train_rows, validation_rows, folder, drawn[training.sampler]())


def source_weights(labels: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Weights (n,) of rows that give each data set the same share; its name is in the column `source`."""
    sources = labels["source"].iloc[rows]
    return 1 / sources.map(sources.value_counts()).to_numpy(float)


def used_epoch(history: pd.DataFrame, training: TrainingSettings) -> int:
    """The epoch, counted from 0, whose weights `fit_in_folder` left in the network."""
    return int(history["validation_loss"].idxmin() if training.patience else history.index[-1])


def learned_labels(labels: pd.DataFrame, attributes: tuple[Attribute, ...]) -> pd.DataFrame:
    """The float columns that batches hold: the labels of what is learned, bands of ages among them."""
    return labels[label_columns(labels, attributes)].astype(float)


def new_network(
    labels: pd.DataFrame, rows: np.ndarray, attributes: tuple[Attribute, ...], training: TrainingSettings, seed: int
) -> FaceNet:
    """A network with its start weights; its age output is centred on the training ages."""
    torch.manual_seed(seed)
    centre = {}
    for attribute in attributes:
        if not isinstance(attribute, YearsAttribute):
            continue
        known = attribute.middles(labels.iloc[rows]).dropna().to_numpy()
        if len(known):
            centre = {"age_mean": float(np.median(known)), "age_std": float(max(known.std(), 1.0))}
    shape = training.architecture, training.stem, training.input_px, training.grey, training.age_head
    network = FaceNet(attributes, *shape, dropout=training.dropout, **centre)
    network.backbone.load_start_weights(training.start_weights)
    return network


def _module(network: FaceNet, training: TrainingSettings, seed: int, epochs: int, frozen_epochs: int = 0) -> FaceModule:
    losses = partial(network.losses, label_smoothing=training.label_smoothing)
    return FaceModule(network, losses, training, seed, epochs, training.learning_rate, frozen_epochs)
