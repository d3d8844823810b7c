"""Training: a network that learns, stops, resumes, averages its weights and keeps its best or its last epoch."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from facelib.config import RECIPES, Settings, TrainingSettings
from facelib.data.pixels import FaceImages
from facelib.errors import DamagedRun
from facelib.models import checkpoints, training
from facelib.models.batches import Batches
from facelib.models.checkpoints import load_result
from facelib.models.network import FaceNet
from facelib.models.training import (
    FaceModule,
    TrainingDiverged,
    fit,
    fit_in_folder,
    new_network,
    source_weights,
    train_multitask,
    training_key,
    used_epoch,
)
from facelib.schema import AGE, ETHNICITY, GENDER, UTKFACE_ATTRIBUTES

# The tiny architecture is not among the settings' choices.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer")
ROWS = np.arange(16)
COLUMNS = ["age", "gender", "ethnicity"]
UNAVERAGED = {"batch_size": 8, "age_head": "linear", "average_decay": 0.0}


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Numbers that can be recomputed, on any processor."""
    monkeypatch.setattr(training, "has_fast_bfloat16", lambda: False)


@pytest.fixture
def settings(settings_of) -> TrainingSettings:
    return settings_of(batch_size=8, epochs=4, head_epochs=1, learning_rate=3e-3).training


def module_of(settings: TrainingSettings, epochs: int = 4, frozen_epochs: int = 0, losses=None) -> FaceModule:
    torch.manual_seed(1)
    network = FaceNet(UTKFACE_ATTRIBUTES, settings.architecture, age_head=settings.age_head)
    return FaceModule(network, losses or network.losses, settings, 0, epochs, settings.learning_rate, frozen_epochs)


def watched_module(settings: TrainingSettings, watch, epochs: int = 4) -> FaceModule:
    """A module that calls `watch(module, outputs)` before each loss, which is multiplied by what it returns."""

    def losses(outputs: dict, batch: dict) -> dict[str, torch.Tensor]:
        factor = watch(module, outputs)
        losses = module.network.losses(outputs, batch)
        return losses if factor is None else {name: loss * factor for name, loss in losses.items()}

    module = module_of(settings, epochs, losses=losses)
    return module


def power_cut(condition):
    """What to watch a training with that ends it where a condition on the module holds."""

    def watch(module: FaceModule, _) -> None:
        if condition(module):
            raise RuntimeError("power cut")

    return watch


def contrary_labels(n: int) -> pd.DataFrame:
    """What is learned from the first sixteen rows is wrong for all other rows: 90 years against 10."""
    return pd.DataFrame({"age": np.where(np.arange(n) < 16, 90.0, 10.0), "gender": -1, "ethnicity": -1})


def state_of(network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- threads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chosen", "used"), [("", [1, 2, 1, 2]), ("2", [2, 2, 2, 2])])
def test_a_training_leaves_cores_to_others_unless_the_caller_chose_its_threads(
    small_faces, settings, monkeypatch, tmp_path, chosen, used
):
    images, faces = small_faces
    free, before = iter([1, 2, 1, 2]), torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    monkeypatch.setattr(training, "threads_beside_others", lambda: next(free))
    torch.set_num_threads(2)
    try:
        history = fit_in_folder(module_of(settings), Batches(images, faces[COLUMNS]), ROWS, ROWS, tmp_path / "network")
        assert history["threads"].tolist() == used and torch.get_num_threads() == 2
        monkeypatch.setattr(training, "threads_beside_others", lambda: 1)
        with pytest.raises(RuntimeError, match="power cut"):
            fit(watched_module(settings, power_cut(lambda module: True)), Batches(images, faces[COLUMNS]), ROWS)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# --- learning ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sixteen_images_can_be_memorised(small_faces):
    images, faces = small_faces
    settings = TrainingSettings(batch_size=16, epochs=14, learning_rate=1e-3, warmup_epochs=1)
    module = module_of(settings, epochs=14)
    batches = Batches(images, faces[COLUMNS])
    batch = batches[ROWS.tolist()]

    def loss() -> float:
        with torch.no_grad():
            return sum(module.network.losses(module.network.eval()(batch["image"]), batch).values()).item()

    before = loss()
    module.network.train()
    fit(module, batches, ROWS)
    assert not module.network.training
    assert loss() < 0.7 * before


@pytest.mark.parametrize(("epochs", "thawed"), [(1, False), (2, True)])
def test_the_backbone_is_frozen_in_the_first_epochs_alone(epochs, thawed, settings, small_faces):
    images, faces = small_faces
    module = module_of(settings, epochs=epochs, frozen_epochs=1)
    before = state_of(module.network)
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    moved = changed(before, state_of(module.network))
    assert {f"heads.{head}.{part}" for head in COLUMNS for part in ("weight", "bias")} <= moved
    backbone = {name for name in moved if name.startswith("backbone.")}
    assert bool(backbone) == thawed  # neither weights nor batch statistics move while it is frozen
    if thawed:
        assert "backbone.resnet.layer4.1.running_mean" in backbone and "backbone.resnet.layer4.0.weight" in backbone


def test_frozen_stages_keep_weights_and_batch_statistics_and_later_ones_learn(settings, small_faces):
    images, faces = small_faces
    module = module_of(settings.model_copy(update={"frozen_stages": 3}), epochs=1)
    stages = [f"backbone.resnet.{name}." for name in ("stem", "layer1", "layer2", "layer3", "layer4")]
    assert len(module.network.backbone.stages()) == len(stages)
    before = state_of(module.network)
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    moved = changed(before, state_of(module.network))
    learned = [stage for stage in stages if any(name.startswith(stage) for name in moved)]
    assert learned == stages[3:]


def test_two_data_sets_are_drawn_from_equally():
    labels = pd.DataFrame({"source": ["many"] * 6 + ["few"] * 2 + ["many"]})
    rows = np.array([0, 2, 3, 6, 8])
    weights = source_weights(labels, rows)
    assert weights.tolist() == [1 / 4, 1 / 4, 1 / 4, 1, 1 / 4]


def test_biases_and_batch_norm_scales_do_not_decay(settings, small_faces):
    images, faces = small_faces
    module = module_of(settings, epochs=1)
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    decay = {
        id(p): group["weight_decay"] for group in module.trainer.optimizers[0].param_groups for p in group["params"]
    }
    parameters = list(module.network.parameters())
    assert [decay[id(p)] for p in parameters] == [settings.weight_decay if p.ndim > 1 else 0 for p in parameters]


def test_earlier_stages_learn_more_slowly(settings, small_faces):
    images, faces = small_faces
    slower = settings.model_copy(update={"backbone_rate": 0.1, "layer_decay": 0.5})
    module = module_of(slower, epochs=1)
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    groups = module.trainer.optimizers[0].param_groups
    rates = {id(p): group["initial_lr"] / slower.learning_rate for group in groups for p in group["params"]}
    resnet, heads = module.network.backbone.resnet, module.network.heads
    parts = {resnet.layer4: 0.1, resnet.layer3: 0.05, resnet.layer1: 0.0125, resnet.stem: 0.00625, heads: 1.0}
    for part, rate in parts.items():
        assert [rates[id(p)] for p in part.parameters()] == pytest.approx([rate] * len(list(part.parameters())))


def test_the_rate_warms_up_then_falls_to_zero(settings, small_faces):
    images, faces = small_faces
    rates = []

    def watch(module, outputs):
        if outputs["age"].requires_grad:
            rates.append(module.trainer.optimizers[0].param_groups[0]["lr"] / settings.learning_rate)

    module = watched_module(settings, watch)  # 2 epochs of warm-up, 2 steps each
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    half_cosine = [(1 + math.cos(math.pi * done / 4)) / 2 for done in range(4)]
    assert rates == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5, *half_cosine])


@pytest.mark.parametrize("step", [0, 3])
def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step(step, settings, small_faces):
    images, faces = small_faces
    module = watched_module(settings, lambda module, _: math.nan if module.global_step == step else 1.0)
    with pytest.raises(
        TrainingDiverged, match=rf"not finite at step {step} \(images .*face_\d.*learning_rate below 0\.003"
    ):
        fit(module, Batches(images, faces[COLUMNS], [f"face_{row}" for row in range(len(faces))]), ROWS)


def test_gradients_are_clipped_to_a_norm_of_one(settings, small_faces):
    """Adam's steps hardly show the size of gradients: they are measured before and after the clipping."""
    images, faces = small_faces
    before, after = [], []

    class Watched(FaceModule):
        def norms(self) -> list[float]:
            gradients = [p.grad.norm() for p in self.network.parameters() if p.grad is not None]
            return [float(torch.stack(gradients).norm())] if gradients else []

        def on_before_optimizer_step(self, _) -> None:
            before.extend(self.norms())

        def on_before_zero_grad(self, _) -> None:
            after.extend(self.norms())

    steep = watched_module(settings, lambda module, _: 1e3, epochs=1)
    module = Watched(steep.network, steep.losses, settings, 0, 1, settings.learning_rate)
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    assert min(before) > 1000 and after == pytest.approx([1.0] * len(after)) and after


# --- resuming ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 3, 5, 7])
def test_a_training_killed_at_any_step_resumes_to_the_same_weights(step, settings, small_faces, tmp_path):
    images, faces = small_faces
    batches, validation = Batches(images, faces[COLUMNS]), np.arange(16, 24)
    straight = module_of(settings)
    whole = fit_in_folder(straight, batches, ROWS, validation, tmp_path / "straight")
    assert whole["epoch"].tolist() == [0, 1, 2, 3] and straight.trainer.global_step == 8

    module = watched_module(settings, power_cut(lambda module: module.global_step == step and module.network.training))
    with pytest.raises(RuntimeError, match="power cut"):
        fit_in_folder(module, batches, ROWS, validation, tmp_path / "cut")
    torch.load(tmp_path / "cut" / "last.ckpt", map_location="cpu", weights_only=True)  # holds no code

    epochs = set()
    torch.manual_seed(99)  # a new process knows nothing of the old one's random state
    module = watched_module(settings, lambda module, _: epochs.add(module.current_epoch))
    history = fit_in_folder(module, batches, ROWS, validation, tmp_path / "cut")
    assert epochs == set(range(step // 2, 4)) and module.trainer.current_epoch == 4
    assert not changed(state_of(straight.network), state_of(module.network))
    pd.testing.assert_frame_equal(history, whole)


def stop_after_an_epoch(settings: TrainingSettings, batches: Batches, validation: np.ndarray, folder) -> None:
    """A training that a power cut ends in its second epoch."""
    module = watched_module(settings, power_cut(lambda module: module.current_epoch == 1))
    with pytest.raises(RuntimeError, match="power cut"):
        fit_in_folder(module, batches, ROWS, validation, folder)


@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_checkpoint_is_refused_with_the_remedy(finished, settings, small_faces, tmp_path):
    images, faces = small_faces
    batches, validation = Batches(images, faces[COLUMNS]), np.arange(16, 24)
    stop_after_an_epoch(settings, batches, validation, tmp_path / "training")
    if finished:
        fit_in_folder(module_of(settings), batches, ROWS, validation, tmp_path / "training")
    (checkpoint,) = (tmp_path / "training").glob("*.ckpt")
    assert checkpoint.name == ("finished.ckpt" if finished else "last.ckpt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-5000])
    with pytest.raises(DamagedRun, match=r"ckpt cannot be read \(.*remove .*training to repeat the training"):
        fit_in_folder(module_of(settings), batches, ROWS, validation, tmp_path / "training")


@pytest.mark.parametrize("patience", [0, 2])
def test_a_finished_training_is_loaded_without_a_step_until_the_version_is_raised(
    patience, settings, small_faces, tmp_path, monkeypatch
):
    images, faces = small_faces
    labels = contrary_labels(len(images)) if patience else faces[COLUMNS]
    batches, validation = Batches(images, labels), np.arange(16, 40)
    if patience:  # it stops early, before the last epoch
        early = {**UNAVERAGED, "learning_rate": 3e-2, "patience": patience, "warmup_epochs": 0}
        settings = settings.model_copy(update=early)
    first = module_of(settings, epochs=12 if patience else 4)
    whole = fit_in_folder(first, batches, ROWS, validation, tmp_path / "training")
    assert used_epoch(whole, settings) == (whole["validation_loss"].idxmin() if patience else 3)

    def forbidden(*_):
        raise AssertionError("trained again")

    second = watched_module(settings, forbidden, epochs=first.epochs)
    assert len(whole) < 12 and changed(state_of(first.network), state_of(second.network))
    seconds = load_result(tmp_path / "training").seconds
    history = fit_in_folder(second, batches, ROWS, validation, tmp_path / "training")
    assert load_result(tmp_path / "training").seconds == seconds > 0
    assert not changed(state_of(first.network), state_of(second.network))
    pd.testing.assert_frame_equal(history, whole)
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == ["finished.ckpt", "key"]
    monkeypatch.setattr(training, "TRAINING_VERSION", checkpoints.TRAINING_VERSION + 1)
    again = watched_module(settings, forbidden, epochs=first.epochs)
    with pytest.raises(AssertionError, match="trained again"):
        fit_in_folder(again, batches, ROWS, validation, tmp_path / "training")


def test_the_average_of_the_weights_by_hand(settings, small_faces):
    images, faces = small_faces
    steps = []

    class Watched(FaceModule):
        def on_train_batch_end(self, *_):
            steps.append(self.network.heads["gender"].weight.detach().clone())

    torch.manual_seed(1)
    network = FaceNet(UTKFACE_ATTRIBUTES, settings.architecture)
    module = Watched(network, network.losses, settings.model_copy(update={"average_decay": 0.3}), 0, 2, 3e-3)
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    average = steps[0]
    for updates, weight in enumerate(steps[1:], start=1):
        decay = min(0.3, (1 + updates) / (10 + updates))
        average = decay * average + (1 - decay) * weight
    assert len(steps) == 4
    torch.testing.assert_close(module.network.heads["gender"].weight, average)


@pytest.mark.slow
def test_the_last_epoch_is_resumed_although_it_was_not_the_best(settings, small_faces, tmp_path):
    images, _ = small_faces
    batches, validation = Batches(images, contrary_labels(len(images))), np.arange(16, 40)
    early = {**UNAVERAGED, "learning_rate": 3e-2, "patience": 3, "warmup_epochs": 0}
    settings = settings.model_copy(update=early)
    straight = module_of(settings, epochs=12)
    whole = fit_in_folder(straight, batches, ROWS, validation, tmp_path / "straight")
    assert whole["validation_loss"].idxmin() == 0

    module = watched_module(settings, power_cut(lambda module: module.current_epoch == 2), epochs=12)
    with pytest.raises(RuntimeError, match="power cut"):
        fit_in_folder(module, batches, ROWS, validation, tmp_path / "cut")

    epochs = set()
    module = watched_module(settings, lambda module, _: epochs.add(module.current_epoch), epochs=12)
    history = fit_in_folder(module, batches, ROWS, validation, tmp_path / "cut")
    assert min(epochs) == 2
    pd.testing.assert_frame_equal(history, whole)  # patience counts the epochs before the interruption, too
    assert not changed(state_of(straight.network), state_of(module.network))


@pytest.mark.parametrize("name", TrainingSettings.model_fields)
def test_every_training_setting_makes_another_training(name, settings, small_faces):
    images, faces = small_faces
    batches, module = Batches(images, faces[COLUMNS]), module_of(settings)
    key = training_key(module, batches, ROWS)
    module.settings = settings.model_copy(update={name: "another"})
    assert training_key(module, batches, ROWS) != key


def test_seed_epochs_rate_rows_edge_and_start_make_another_training(settings, small_faces):
    images, faces = small_faces
    batches = Batches(images, faces[COLUMNS])

    def key(rows=ROWS, batches=batches, **values) -> str:
        module = module_of(settings)
        for name, value in values.items():
            setattr(module, name, value)
        return training_key(module, batches, rows)

    other_start = module_of(settings).network
    torch.nn.init.zeros_(other_start.heads["age"].weight)
    larger = FaceImages(images.pixels.repeat(2, axis=1).repeat(2, axis=2), images.places)
    renamed = module_of(settings).network
    renamed.attributes = (AGE, GENDER)
    keys = [
        key(),
        key(seed=1),
        key(epochs=5),
        key(learning_rate=1.0),
        key(frozen_epochs=1),
        key(rows=ROWS[:-1]),
        key(batches=Batches(larger, faces[COLUMNS])),
        key(batches=Batches(images, faces[COLUMNS].assign(age=30.0))),
        key(network=other_start),
        key(network=renamed),
    ]
    assert key() == keys[0] and len(set(keys)) == len(keys)


def test_a_training_from_other_weights_is_another_one(settings, small_faces, tmp_path):
    images, faces = small_faces
    batches = Batches(images, faces[COLUMNS])
    fit_in_folder(module_of(settings, epochs=1), batches, ROWS, ROWS, tmp_path / "training")
    again, other = module_of(settings, epochs=1), module_of(settings, epochs=1)
    with torch.no_grad():
        other.network.heads["age"].bias += 1
    steps = []
    for module in (again, other):
        module.on_before_optimizer_step = lambda *_, module=module: steps.append(module)
        fit_in_folder(module, batches, ROWS, ROWS, tmp_path / "training")
    assert set(steps) == {other}


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_not_resumed(settings, small_faces, tmp_path):
    images, faces = small_faces
    validation = np.arange(16, 24)
    stop_after_an_epoch(settings, Batches(images, faces[COLUMNS]), validation, tmp_path / "cut")
    assert (tmp_path / "cut" / "last.ckpt").exists()

    corrected = faces[COLUMNS].copy()
    corrected.loc[3, "age"] += 1
    results = []
    for name in ("cut", "fresh"):
        module = module_of(settings)
        history = fit_in_folder(module, Batches(images, corrected), ROWS, validation, tmp_path / name)
        results.append((history, state_of(module.network)))
    pd.testing.assert_frame_equal(results[0][0], results[1][0])
    assert not changed(results[0][1], results[1][1])


def test_a_finished_training_leaves_its_log_and_nothing_to_resume(settings, small_faces, tmp_path):
    images, faces = small_faces
    module, batches = module_of(settings, epochs=2), Batches(images, faces[COLUMNS])
    history = fit_in_folder(module, batches, ROWS, ROWS, tmp_path / "training")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training", "training_log.csv"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "training_log.csv"), history)
    assert {"epoch", "train_loss", "validation_loss", "train_age", "validation_ethnicity"} <= set(history)


def test_the_best_epochs_weights_are_kept_and_training_stops_when_nothing_improves(settings, small_faces, tmp_path):
    images, _ = small_faces
    early = {**UNAVERAGED, "learning_rate": 3e-2, "patience": 2, "warmup_epochs": 0}
    settings = settings.model_copy(update=early)
    labels = contrary_labels(len(images))
    module, validation = module_of(settings, epochs=12), np.arange(16, 40)
    history = fit_in_folder(module, Batches(images, labels), ROWS, validation, tmp_path / "training")
    best = used_epoch(history, settings)
    assert best < len(history) - 1 and len(history) == best + 1 + settings.patience < 12
    batch = Batches(images, labels)[validation.tolist()]
    with torch.no_grad():
        loss = sum(module.network.losses(module.network(batch["image"]), batch).values()).item()
    assert loss == pytest.approx(history["validation_loss"].min(), rel=1e-4)
    assert loss < 0.99 * history["validation_loss"].iloc[-1]


# --- whole trainings --------------------------------------------------------------------------------------


@pytest.fixture
def whole_settings(settings_of) -> Settings:
    return settings_of(batch_size=8, epochs=4, learning_rate=3e-3)


@pytest.mark.slow
def test_the_multitask_history_is_in_years_and_belongs_to_the_network_returned(whole_settings, small_faces, tmp_path):
    images, faces = small_faces
    rows = np.arange(64), np.arange(64, 96)
    network, history = train_multitask(images, faces, *rows, UTKFACE_ATTRIBUTES, whole_settings, tmp_path / "training")
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    with torch.no_grad():
        predicted = network(Batches(images, faces[COLUMNS])[rows[1].tolist()]["image"])["age"].numpy()
    error_years = np.abs(predicted - faces["age"].to_numpy()[rows[1]])
    assert history["validation_age_mae"].iloc[-1] == pytest.approx(error_years.mean(), rel=1e-3)


@pytest.mark.slow
def test_a_training_reads_the_labels_of_its_attributes_alone(whole_settings, small_faces, tmp_path):
    images, faces = small_faces
    rows = np.arange(64), np.arange(64, 96)
    ruined = faces.assign(age=np.nan)[["age", "ethnicity"]]  # gender is not even there
    results = [
        train_multitask(images, labels, *rows, (ETHNICITY,), whole_settings, tmp_path / name)
        for name, labels in {"given": faces, "ruined": ruined}.items()
    ]
    assert set(results[0][1]) == {
        f"{stage}_{n}" for stage in ("train", "validation") for n in ("loss", "ethnicity")
    } | {"epoch", "threads"}
    pd.testing.assert_frame_equal(results[0][1], results[1][1])


def test_a_new_network_starts_at_the_training_ages(settings):
    labels = pd.DataFrame({"age": [10.0, 20.0, math.nan, 90.0, 116.0], "gender": 0, "ethnicity": 0})

    def ages_of(rows: list[int]) -> tuple[float, float]:
        ages = new_network(labels, np.array(rows), UTKFACE_ATTRIBUTES, settings, 0).ages
        return ages["age_mean"], ages["age_std"]

    assert ages_of([0, 1, 2, 3]) == (20, pytest.approx(np.std([10, 20, 90])))
    assert ages_of([0])[1] == 1  # no spread cannot be a unit
    default = FaceNet((AGE,), "tiny").ages
    assert ages_of([2]) == (default["age_mean"], default["age_std"])
    network, again, other = (
        new_network(labels, np.arange(4), UTKFACE_ATTRIBUTES, settings, seed) for seed in (0, 0, 1)
    )
    assert not changed(state_of(network), state_of(again)) and changed(state_of(network), state_of(other))


@pytest.mark.parametrize(("epochs", "expected"), [(1, 3.0), (4, 12.0), (8, 12.0)])
def test_short_trainings_augment_less(epochs, expected, settings, small_faces, monkeypatch):
    images, faces = small_faces
    rotations = set()

    def watched(batch, random, limits, strength):
        rotations.add(limits.rotation)
        return batch

    monkeypatch.setattr(training, "augment", watched)
    settings = settings.model_copy(update={"augmented_epochs": 4})
    fit(module_of(settings, epochs=epochs), Batches(images, faces[COLUMNS]), ROWS)
    assert rotations == {expected}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains(recipe, settings_of, small_faces, tmp_path, monkeypatch):
    images, faces = small_faces
    small = {"batch_size": 16, "epochs": 2, "stem": "pooled", "start_weights": "none"}
    settings = settings_of(**RECIPES[recipe].settings | small)
    seen = {}

    def watched(batch, random, limits, strength):
        seen.update(limits=limits, strength=strength)
        return batch

    monkeypatch.setattr(training, "augment", watched)
    rows = np.arange(64), np.arange(64, 96)
    network, history = train_multitask(images, faces, *rows, UTKFACE_ATTRIBUTES, settings, tmp_path / "training")
    assert len(history) == 2 and history["validation_loss"].notna().all()
    config = network.config()
    assert config["grey"] == settings.training.grey and config["age_head"] == settings.training.age_head
    assert (seen["strength"] is not None) == settings.training.rarer_stronger
    if settings.training.rarer_stronger:
        assert seen["strength"].min() >= 0.75 and seen["strength"].max() <= 2 and seen["strength"].std() > 0.05
