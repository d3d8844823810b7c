"""Augmentation: every change within its limits, drawn per image, repeatable."""

import numpy as np
import pytest
import torch

from facelib.models.augmentation import AUGMENTATIONS, BatchRandom, Limits, augment

FACES = AUGMENTATIONS["faces"]
PX = 64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def changed_by(images: torch.Tensor, seed: int = 0, limits: Limits = FACES, **options) -> torch.Tensor:
    return augment(images, BatchRandom(seeded(seed), len(images)), limits, **options)


def dots(n: int, row: float, column: float) -> torch.Tensor:
    """The same black picture with one soft dot, n times."""
    y, x = np.mgrid[:PX, :PX] + 0.5
    dot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
    return torch.tensor(dot, dtype=torch.float32).expand(n, 3, PX, PX)


def centres(images: torch.Tensor) -> np.ndarray:
    """Row and column of each picture's brightness centre, relative to the middle."""
    mass = images.mean(dim=1).numpy()
    at = np.arange(PX) + 0.5 - PX / 2
    total = mass.sum(axis=(1, 2))
    return np.stack([(mass.sum(axis=2) * at).sum(axis=1), (mass.sum(axis=1) * at).sum(axis=1)], axis=1) / total[:, None]


@pytest.mark.parametrize("picture", ["noise", "black", "white"])
def test_values_stay_between_0_and_1(picture):
    fill = {"black": torch.zeros, "white": torch.ones}
    images = torch.rand(64, 3, 32, 24, generator=seeded()) if picture == "noise" else fill[picture](64, 3, 32, 24)
    changed = changed_by(images)
    assert changed.shape == images.shape and changed.dtype == torch.float32
    assert changed.min() >= 0 and changed.max() <= 1


def test_one_seed_means_the_same_changes_and_another_does_not():
    images = torch.rand(8, 3, PX, PX, generator=seeded())
    assert torch.equal(changed_by(images, 3), changed_by(images, 3))
    assert not torch.equal(changed_by(images, 3), changed_by(images, 4))


def test_the_images_of_a_batch_are_changed_differently():
    changed = changed_by(torch.rand(1, 3, PX, PX, generator=seeded()).expand(8, -1, -1, -1))
    for one in range(8):
        for other in range(one):
            assert (changed[one] - changed[other]).abs().max() > 0.05


def test_the_given_images_stay_as_they_are():
    images = torch.rand(8, 3, 32, 32, generator=seeded())
    before = images.clone()
    changed_by(images)
    assert torch.equal(images, before)


def test_with_all_limits_at_zero_an_image_comes_back_as_it_is_or_mirrored():
    images = torch.rand(400, 3, 16, 16, generator=seeded())
    changed = changed_by(images, 1, AUGMENTATIONS["flip"])
    same = (changed - images).abs().amax(dim=(1, 2, 3)) < 1e-4
    mirrored = (changed - images.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert (same ^ mirrored).all()
    assert 160 <= mirrored.sum() <= 240  # 200 expected, 10 is a standard deviation


def test_about_half_are_flipped_among_all_other_changes():
    half = torch.zeros(400, 3, 32, 32)
    half[:, :, :, 16:] = 1
    changed = changed_by(half, 2)
    mirrored = changed[..., :16].mean(dim=(1, 2, 3)) > changed[..., 16:].mean(dim=(1, 2, 3))
    assert 160 <= mirrored.sum() <= 240


def test_a_shift_is_at_most_its_share_of_the_edge():
    moved = np.abs(centres(changed_by(dots(200, 32, 32), limits=Limits(shift=0.06)))).max(axis=0)
    limit = 0.06 * PX
    assert (moved <= limit + 0.05).all() and (moved > 0.9 * limit).all()


def test_a_rotation_is_at_most_its_angle():
    above = dots(200, 12, 32)  # 20 pixels above the middle, where a flip does not show
    up = centres(changed_by(above, limits=Limits(rotation=12)))
    degrees = np.degrees(np.arctan2(up[:, 1], -up[:, 0]))
    assert np.hypot(*up.T) == pytest.approx(20, abs=0.1)
    assert np.abs(degrees).max() <= 12.2
    assert degrees.min() < -0.9 * 12 and degrees.max() > 0.9 * 12


def test_a_zoom_is_at_most_its_factor():
    away = -centres(changed_by(dots(200, 12, 32), limits=Limits(zoom=0.12)))[:, 0] / 20
    assert away.min() >= 1 / 1.12 - 0.01 and away.min() < 0.92
    assert away.max() <= 1 / 0.88 + 0.01 and away.max() > 1.1


def test_brightness_scales_the_mean_and_contrast_the_distance_from_it():
    grey = changed_by(torch.full((200, 3, 8, 8), 0.4), limits=Limits(brightness=0.25))
    assert 0.4 * 0.75 <= grey.min() < 0.32 and 0.48 < grey.max() <= 0.4 * 1.25 + 1e-6
    stripes = torch.full((200, 3, 8, 8), 0.3)
    stripes[:, :, ::2] = 0.5
    changed = changed_by(stripes, limits=Limits(contrast=0.25))
    span = changed.amax(dim=(1, 2, 3)) - changed.amin(dim=(1, 2, 3))
    assert changed.mean(dim=(1, 2, 3)) == pytest.approx(0.4, abs=1e-5)
    assert 0.2 * 0.75 - 1e-5 <= span.min() < 0.16 and 0.24 < span.max() <= 0.2 * 1.25 + 1e-5


def test_a_tenth_of_the_images_turn_grey():
    images = torch.rand(1000, 3, 4, 4, generator=seeded())
    changed = changed_by(images, 1, Limits(p_grey=0.1))
    grey = (changed.amax(dim=1) - changed.amin(dim=1)).amax(dim=(1, 2)) < 1e-6
    assert 62 <= grey.sum() <= 138  # 100 expected, 9.5 is a standard deviation


def test_a_quarter_of_the_images_lose_a_rectangle_of_at_most_a_fifth():
    changed = changed_by(torch.zeros(400, 3, 40, 40), limits=Limits(p_erase=0.25))
    share = (changed == 0.5).float().mean(dim=(1, 2, 3))
    assert set(changed.unique().tolist()) == {0.0, 0.5}
    assert 65 <= (share > 0).sum() <= 135  # 100 expected, 8.7 is a standard deviation
    assert share.max() <= 0.22  # a fifth, and what whole pixels add


def test_a_share_of_the_images_gets_coarser_and_keeps_its_mean():
    columns = torch.rand(1, 1, 1, 48, generator=seeded()).expand(400, 3, 48, 48)
    changed = changed_by(columns, 2, Limits(p_coarse=0.3))
    detail = (changed[..., 1:] - changed[..., :-1]).abs().mean(dim=(1, 2, 3))
    coarse = detail < 0.9 * detail.max()
    assert 90 <= coarse.sum() <= 150  # 120 expected, 9.2 is a standard deviation
    assert changed[coarse].mean() == pytest.approx(columns.mean().item(), abs=0.01)
    assert detail[~coarse] == pytest.approx(detail.max().item(), rel=1e-3)


def test_limits_are_scaled_all_at_once():
    assert Limits(rotation=12, p_erase=0.5).scaled(0.25) == Limits(rotation=3, p_erase=0.125)


def test_strength_scales_what_is_done_to_each_image():
    images = dots(200, 12, 32)
    strength = torch.where(torch.arange(200) < 100, 0.0, 2.0)
    up = centres(changed_by(images, limits=Limits(rotation=12), strength=strength))
    degrees = np.abs(np.degrees(np.arctan2(up[:, 1], -up[:, 0])))
    assert degrees[:100].max() < 0.2 and degrees[100:].max() <= 24.2 and degrees[100:].max() > 0.9 * 24


@pytest.mark.parametrize("limits", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_two_processes_change_their_halves_as_one_changes_the_whole(limits):
    images = torch.rand(10, 3, 32, 32, generator=seeded())
    whole = changed_by(images, 5, limits)
    for rank in range(2):
        half = augment(images[rank::2], BatchRandom(seeded(5), 5, rank, 2), limits)
        torch.testing.assert_close(half, whole[rank::2])
