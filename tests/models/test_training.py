"""Training: a network that learns, stops, resumes, averages its weights and keeps its best or its last epoch."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from facelib.config import RECIPES, Profile, resolve_profile
from facelib.data.pixels import FaceImages
from facelib.errors import DamagedRun
from facelib.models import training
from facelib.models.batches import Batches
from facelib.models.losses import OPINIONS, multitask_losses
from facelib.models.network import FaceNet, predict_outputs
from facelib.models.training import (
    FaceModule,
    TrainingDiverged,
    fit,
    learned_labels,
    low_px,
    new_network,
    train_multitask,
    train_scorer,
)

ROWS = np.arange(16)
COLUMNS = ["age", "gender", "ethnicity"]
UNAVERAGED = {"batch_size": 8, "age_head": "linear", "average_decay": 0.0}


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Numbers that can be recomputed, on any processor."""
    monkeypatch.setattr(training, "has_fast_bfloat16", lambda: False)


@pytest.fixture
def profile(tiny) -> Profile:
    return Profile("test", architecture=tiny, batch_size=8, epochs=4, head_epochs=1, learning_rate=3e-3)


def losses(outputs: dict, batch: dict) -> dict[str, torch.Tensor]:
    return multitask_losses(outputs, batch, 20.0)


def module_of(profile: Profile, epochs: int = 4, frozen_epochs: int = 0, losses=losses) -> FaceModule:
    torch.manual_seed(1)
    network = FaceNet(profile.architecture, age_head=profile.age_head)
    return FaceModule(network, losses, profile, epochs, profile.learning_rate, frozen_epochs)


def contrary_labels(n: int) -> pd.DataFrame:
    """What is learned from the first sixteen rows is wrong for the others: 90 years against 10."""
    return pd.DataFrame({"age": np.where(np.arange(n) < 16, 90.0, 10.0), "gender": -1, "ethnicity": -1})


def state_of(network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- learning ---------------------------------------------------------------------------------------------


def test_sixteen_images_can_be_learned_by_heart(small_faces):
    images, faces = small_faces
    profile = Profile("test", batch_size=16, epochs=14, learning_rate=1e-3, warmup_epochs=1)
    module = module_of(profile, epochs=14)
    batches = Batches(images, faces[COLUMNS])
    batch = batches[ROWS.tolist()]

    def loss() -> float:
        with torch.no_grad():
            return sum(losses(module.network.eval()(batch["image"]), batch).values()).item()

    before = loss()
    module.network.train()
    assert fit(module, batches, ROWS).empty  # no folder, no history
    assert not module.network.training
    assert loss() < 0.7 * before


@pytest.mark.parametrize(("epochs", "thawed"), [(1, False), (2, True)])
def test_the_backbone_is_held_in_the_first_epochs_alone(epochs, thawed, profile, small_faces):
    images, faces = small_faces
    module = module_of(profile, epochs=epochs, frozen_epochs=1)
    before = state_of(module.network)
    fit(module, Batches(images, faces[COLUMNS]), ROWS, ROWS)
    moved = changed(before, state_of(module.network))
    assert {f"heads.{head}.{part}" for head in COLUMNS for part in ("weight", "bias")} <= moved
    backbone = {name for name in moved if name.startswith("backbone.")}
    assert bool(backbone) == thawed  # neither weights nor batch statistics move while it is held
    if thawed:
        assert "backbone.resnet.layer4.1.running_mean" in backbone and "backbone.resnet.layer4.0.weight" in backbone


def test_biases_and_batch_norm_scales_do_not_decay(profile, small_faces):
    images, faces = small_faces
    module = module_of(profile, epochs=1)
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    decaying, free = module.trainer.optimizers[0].param_groups
    assert decaying["weight_decay"] == profile.weight_decay and free["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decaying["params"]) and all(p.ndim == 1 for p in free["params"])
    assert len(decaying["params"]) + len(free["params"]) == len(list(module.network.parameters()))


def test_the_rate_warms_up_then_falls_to_nothing(profile, small_faces):
    images, faces = small_faces
    rates = []

    def watched(outputs, batch):
        if outputs["age"].requires_grad:
            rates.append(module.trainer.optimizers[0].param_groups[0]["lr"] / profile.learning_rate)
        return losses(outputs, batch)

    module = module_of(profile, epochs=4, losses=watched)  # 2 epochs of warm-up, 2 steps each
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    half_cosine = [(1 + math.cos(math.pi * done / 4)) / 2 for done in range(4)]
    assert rates == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5, *half_cosine])


@pytest.mark.parametrize("step", [0, 3])
def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step(step, profile, small_faces):
    images, faces = small_faces
    calls = []

    def diverging(outputs, batch):
        calls.append(batch)
        scale = math.nan if len(calls) == step + 1 else 1.0
        return {name: loss * scale for name, loss in losses(outputs, batch).items()}

    module = module_of(profile, losses=diverging)
    with pytest.raises(
        TrainingDiverged, match=rf"not finite at step {step} \(images .*face_\d.*learning_rate below 0\.003"
    ):
        fit(module, Batches(images, faces[COLUMNS], [f"face_{row}" for row in range(len(faces))]), ROWS)


# --- resuming ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 3, 5, 7])
def test_a_training_that_was_killed_at_any_step_goes_on_as_if_it_had_not_been(step, profile, small_faces, tmp_path):
    images, faces = small_faces
    batches, validation = Batches(images, faces[COLUMNS]), np.arange(16, 24)
    setting = profile
    straight = module_of(setting)
    whole = fit(straight, batches, ROWS, validation, tmp_path / "straight")
    assert whole["epoch"].tolist() == [0, 1, 2, 3] and straight.trainer.global_step == 8

    def killed(outputs, batch):
        if module.global_step == step and module.network.training:
            raise RuntimeError("power cut")
        return losses(outputs, batch)

    module = module_of(setting, losses=killed)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(module, batches, ROWS, validation, tmp_path / "cut")
    torch.load(tmp_path / "cut" / "last.ckpt", map_location="cpu", weights_only=True)  # nothing has to be trusted

    epochs = set()

    def watched(outputs, batch):
        epochs.add(module.current_epoch)
        return losses(outputs, batch)

    torch.manual_seed(99)  # the state of the new process says nothing about the old one's
    module = module_of(setting, losses=watched)
    history = fit(module, batches, ROWS, validation, tmp_path / "cut")
    assert epochs == set(range(step // 2, 4)) and module.trainer.current_epoch == 4
    assert not changed(state_of(straight.network), state_of(module.network))
    pd.testing.assert_frame_equal(history, whole)


def stop_after_an_epoch(profile: Profile, batches: Batches, validation: np.ndarray, folder: Path) -> None:
    """A training that a power cut ends in its second epoch."""

    def killed(outputs, batch):
        if module.current_epoch == 1:
            raise RuntimeError("power cut")
        return losses(outputs, batch)

    module = module_of(profile, losses=killed)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(module, batches, ROWS, validation, folder)


@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_checkpoint_is_refused_with_the_remedy(finished, profile, small_faces, tmp_path):
    images, faces = small_faces
    batches, validation = Batches(images, faces[COLUMNS]), np.arange(16, 24)
    stop_after_an_epoch(profile, batches, validation, tmp_path / "training")
    if finished:
        fit(module_of(profile), batches, ROWS, validation, tmp_path / "training")
    (kept,) = (tmp_path / "training").glob("*.ckpt")
    assert kept.name == ("finished.ckpt" if finished else "last.ckpt")
    kept.write_bytes(kept.read_bytes()[:-5000])
    with pytest.raises(DamagedRun, match=r"ckpt cannot be read \(.*remove .*training, and the training begins anew"):
        fit(module_of(profile), batches, ROWS, validation, tmp_path / "training")


@pytest.mark.parametrize("patience", [0, 2])
def test_a_finished_training_is_taken_up_without_a_step_while_its_code_is_the_same(
    patience, profile, small_faces, tmp_path, monkeypatch
):
    images, faces = small_faces
    labels = contrary_labels(len(images)) if patience else faces[COLUMNS]
    batches, validation = Batches(images, labels), np.arange(16, 40)
    if patience:  # it stops early, before the last epoch
        profile = dataclasses.replace(profile, **UNAVERAGED, learning_rate=3e-2, patience=patience, warmup_epochs=0)
    first = module_of(profile, epochs=12 if patience else 4)
    whole = fit(first, batches, ROWS, validation, tmp_path / "training")

    def forbidden(outputs, batch):
        raise AssertionError("trained again")

    second = module_of(profile, epochs=first.epochs, losses=forbidden)
    assert len(whole) < 12 and changed(state_of(first.network), state_of(second.network))
    seconds = training.training_seconds(tmp_path / "training")
    history = fit(second, batches, ROWS, validation, tmp_path / "training")
    assert training.training_seconds(tmp_path / "training") == seconds > 0
    assert not changed(state_of(first.network), state_of(second.network))
    pd.testing.assert_frame_equal(history, whole)
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == ["finished.ckpt", "key"]
    monkeypatch.setattr(training, "training_code", lambda _: "changed")
    with pytest.raises(AssertionError, match="trained again"):
        fit(second, batches, ROWS, validation, tmp_path / "training")


def test_the_average_of_the_weights_by_hand(profile, small_faces, tmp_path):
    images, faces = small_faces
    steps = []

    class Watched(FaceModule):
        def on_train_batch_end(self, *_):
            steps.append(self.network.heads["gender"].weight.detach().clone())

    def watched_module(decay: float) -> FaceModule:
        torch.manual_seed(1)
        setting = dataclasses.replace(profile, average_decay=decay, epochs=2)
        return Watched(FaceNet(profile.architecture), losses, setting, 2, 3e-3)

    module = watched_module(0.3)
    fit(module, Batches(images, faces[COLUMNS]), ROWS)
    average = steps[0]
    for updates, weight in enumerate(steps[1:], start=1):
        decay = min(0.3, (1 + updates) / (10 + updates))
        average = decay * average + (1 - decay) * weight
    assert len(steps) == 4
    torch.testing.assert_close(module.network.heads["gender"].weight, average)


def test_the_first_epochs_see_smaller_images(profile, small_faces):
    images, faces = small_faces
    large = FaceImages(images.pixels.repeat(2, axis=1).repeat(2, axis=2), images.places)
    setting = dataclasses.replace(profile, low_px_share=0.5)
    seen = []
    module = module_of(setting, epochs=4)
    module.network.backbone.resnet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    fit(module, Batches(large, faces[COLUMNS]), ROWS)
    assert low_px(64) == 48 and seen == [48] * 4 + [64] * 4


def test_a_recipe_that_does_not_learn_a_label_does_not_read_it(profile, small_faces):
    _, faces = small_faces
    columns = learned_labels(faces, dataclasses.replace(profile, learned="age"))
    assert columns["age"].equals(faces["age"].astype(float))
    assert (columns[["gender", "ethnicity"]] == -1).all(axis=None)
    assert learned_labels(faces, dataclasses.replace(profile, learned="gender"))["age"].isna().all()


def test_the_last_epoch_is_resumed_although_it_was_not_the_best(tiny, small_faces, tmp_path):
    images, _ = small_faces
    batches, validation = Batches(images, contrary_labels(len(images))), np.arange(16, 40)
    profile = Profile("test", architecture=tiny, **UNAVERAGED, learning_rate=3e-2, patience=3, warmup_epochs=0)
    straight = module_of(profile, epochs=12)
    whole = fit(straight, batches, ROWS, validation, tmp_path / "straight")
    assert whole["validation_loss"].idxmin() == 0

    def killed(outputs, batch):
        if module.current_epoch == 2:
            raise RuntimeError("power cut")
        return losses(outputs, batch)

    module = module_of(profile, epochs=12, losses=killed)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(module, batches, ROWS, validation, tmp_path / "cut")

    epochs = set()

    def watched(outputs, batch):
        epochs.add(module.current_epoch)
        return losses(outputs, batch)

    module = module_of(profile, epochs=12, losses=watched)
    history = fit(module, batches, ROWS, validation, tmp_path / "cut")
    assert min(epochs) == 2
    pd.testing.assert_frame_equal(history, whole)  # patience counts the epochs before the interruption, too
    assert not changed(state_of(straight.network), state_of(module.network))


def test_the_key_of_a_training_holds_every_setting_that_it_reads():
    given = {"epochs", "label_epochs", "learning_rate", "head_epochs"}  # part of the module, in the key by themselves
    read = set(re.findall(r"\bprofile\.(\w+)", Path(training.__file__).read_text("utf-8"))) & set(vars(Profile("test")))
    recipes = {name for recipe in RECIPES.values() for name in recipe.settings}
    assert (read | recipes) - given <= set(training.READ_BY_TRAINING)


@pytest.mark.parametrize(("setting", "value", "same"), [("lime_samples", 7, True), ("dropout", 0.9, False)])
def test_only_settings_that_a_training_reads_make_it_another(setting, value, same, profile, small_faces):
    images, faces = small_faces
    batches = Batches(images, faces[COLUMNS])
    module, other = module_of(profile), module_of(dataclasses.replace(profile, **{setting: value}))
    assert (training.training_key(module, batches, ROWS) == training.training_key(other, batches, ROWS)) is same


def test_a_training_from_other_weights_is_another_one(profile, small_faces, tmp_path):
    images, faces = small_faces
    batches = Batches(images, faces[COLUMNS])
    fit(module_of(profile, epochs=1), batches, ROWS, ROWS, tmp_path / "training")
    again, other = module_of(profile, epochs=1), module_of(profile, epochs=1)
    with torch.no_grad():
        other.network.heads["age"].bias += 1
    steps = []
    for module in (again, other):
        module.on_before_optimizer_step = lambda *_, module=module: steps.append(module)
        fit(module, batches, ROWS, ROWS, tmp_path / "training")
    assert set(steps) == {other}


def test_a_checkpoint_of_another_training_is_not_resumed(profile, small_faces, tmp_path):
    images, faces = small_faces
    validation = np.arange(16, 24)
    stop_after_an_epoch(profile, Batches(images, faces[COLUMNS]), validation, tmp_path / "cut")
    assert (tmp_path / "cut" / "last.ckpt").exists()

    corrected = faces[COLUMNS].copy()
    corrected.loc[3, "age"] += 1
    results = []
    for name in ("cut", "fresh"):
        module = module_of(profile)
        history = fit(module, Batches(images, corrected), ROWS, validation, tmp_path / name)
        results.append((history, state_of(module.network)))
    pd.testing.assert_frame_equal(results[0][0], results[1][0])
    assert not changed(results[0][1], results[1][1])


def test_a_finished_training_leaves_its_log_and_nothing_to_resume(profile, small_faces, tmp_path):
    images, faces = small_faces
    history = fit(module_of(profile, epochs=2), Batches(images, faces[COLUMNS]), ROWS, ROWS, tmp_path / "training")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training", "training_log.csv"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "training_log.csv"), history)
    assert {"epoch", "train_loss", "validation_loss", "train_age", "validation_ethnicity"} <= set(history)


def test_the_best_epochs_weights_are_kept_and_training_stops_when_nothing_improves(tiny, small_faces, tmp_path):
    images, _ = small_faces
    profile = Profile("test", architecture=tiny, **UNAVERAGED, learning_rate=3e-2, patience=2, warmup_epochs=0)
    labels = contrary_labels(len(images))
    module, validation = module_of(profile, epochs=12), np.arange(16, 40)
    history = fit(module, Batches(images, labels), ROWS, validation, tmp_path / "training")
    best = int(history["validation_loss"].idxmin())
    assert best < len(history) - 1 and len(history) == best + 1 + profile.patience < 12
    batch = Batches(images, labels)[validation.tolist()]
    with torch.no_grad():
        kept = sum(losses(module.network(batch["image"]), batch).values()).item()
    assert kept == pytest.approx(history["validation_loss"].min(), rel=1e-4)
    assert kept < 0.99 * history["validation_loss"].iloc[-1]


# --- whole trainings --------------------------------------------------------------------------------------


def test_the_multitask_history_is_in_years_and_belongs_to_the_network_returned(profile, small_faces, tmp_path):
    images, faces = small_faces
    train, validation = np.arange(64), np.arange(64, 96)
    network, history = train_multitask(images, faces, train, validation, profile, tmp_path / "training")
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    with torch.no_grad():
        predicted = network(Batches(images, faces[COLUMNS])[validation.tolist()]["image"])["age"].numpy()
    error_years = np.abs(predicted - faces["age"].to_numpy()[validation])
    assert history["validation_mae"].iloc[-1] == pytest.approx(error_years.mean(), rel=1e-3)


def test_a_new_network_starts_at_the_training_ages(profile, small_faces):
    labels = pd.DataFrame({"age": [10.0, 20.0, math.nan, 90.0, 116.0], "gender": 0, "ethnicity": 0})
    network = new_network(labels, np.array([0, 1, 2, 3]), profile)
    assert network.age_mean == 20 and network.age_std == pytest.approx(np.std([10, 20, 90]))
    assert new_network(labels, np.array([0]), profile).age_std == 1  # a spread of nothing is no unit
    unknown = new_network(labels, np.array([2]), profile)
    assert (unknown.age_mean, unknown.age_std) == (FaceNet("tiny").age_mean, FaceNet("tiny").age_std)
    again = new_network(labels, np.array([0, 1, 2, 3]), profile)
    assert not changed(state_of(network), state_of(again))


def test_a_scorer_learns_from_its_rows_alone_and_repeats(profile, small_faces):
    images, faces = small_faces
    ruined = faces.copy()
    ruined.loc[ROWS.max() + 1 :, ["age", "gender", "ethnicity"]] = [math.nan, -1, -1]
    scorers = [
        train_scorer(images, labels, ROWS, Profile("test", architecture="tiny", batch_size=8, label_epochs=2))
        for labels in (faces, ruined)
    ]
    first, second = (predict_outputs(scorer, images)["age"] for scorer in scorers)
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()


@pytest.mark.parametrize(("epochs", "expected"), [(1, 3.0), (4, 12.0), (8, 12.0)])
def test_short_trainings_change_faces_less(epochs, expected, profile, small_faces, monkeypatch):
    images, faces = small_faces
    seen = set()

    def watched(batch, draws, limits, strength):
        seen.add(limits.rotation)
        return batch

    monkeypatch.setattr(training, "augment", watched)
    setting = dataclasses.replace(profile, augmented_epochs=4)
    fit(module_of(setting, epochs=epochs), Batches(images, faces[COLUMNS]), ROWS)
    assert seen == {expected}


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_opinions_reach_the_losses_by_the_profiles_share(share, profile, small_faces, tmp_path, monkeypatch):
    images, faces = small_faces
    opinions = pd.DataFrame(dict.fromkeys(OPINIONS, 0.2), index=faces.index).assign(age_pred=50.0, age_spread=5.0)
    seen = []

    def watched(outputs, batch, *settings):
        seen.append((OPINIONS[0] in batch, settings[-1]))
        return multitask_losses(outputs, batch, *settings)

    monkeypatch.setattr(training, "multitask_losses", watched)
    setting = dataclasses.replace(profile, opinion_share=share, epochs=1)
    given = images, faces, ROWS, np.arange(64, 96), setting, tmp_path / "training"
    train_multitask(*given, opinions=opinions)
    assert set(seen) == {(share > 0, share)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains(recipe, tiny, small_faces, tmp_path, monkeypatch):
    images, faces = small_faces
    settings = {"recipe": recipe, "batch_size": 16, "epochs": 2}
    setting = dataclasses.replace(resolve_profile("smoke", settings), architecture=tiny, stem="pooled")
    seen = {}

    def watched(batch, draws, limits, strength):
        seen.update(limits=limits, strength=strength)
        return batch

    monkeypatch.setattr(training, "augment", watched)
    network, history = train_multitask(images, faces, np.arange(64), np.arange(64, 96), setting, tmp_path / "training")
    assert len(history) == 2 and history["validation_loss"].notna().all()
    assert network.config()["grey"] == setting.grey and network.age_head == setting.age_head
    assert (seen["strength"] is not None) == setting.rarer_stronger
    if setting.rarer_stronger:
        assert seen["strength"].min() >= 0.75 and seen["strength"].max() <= 2 and seen["strength"].std() > 0.05
