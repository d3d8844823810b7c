"""Regions: where they lie, shares by hand, and comparisons of groups that find what was planted."""

import numpy as np
import pandas as pd
import pytest

from facelib.explain.regions import REGIONS, SHARES, correct_against_wrong, group_shares, region_map, region_shares


def test_the_map_has_every_region_and_the_eyes_where_the_alignment_puts_them():
    regions = region_map(200)
    assert set(np.unique(regions)) == set(range(len(REGIONS)))
    for column in (61, 139):
        assert REGIONS[regions[58, column]] == "eyes_brows"
    middle = [REGIONS[regions[row, 100]] for row in (5, 30, 95, 142, 185)]
    assert middle == ["hair", "forehead", "nose", "mouth", "jaw"]
    assert REGIONS[regions[110, 45]] == REGIONS[regions[110, 155]] == "cheeks"
    assert REGIONS[regions[195, 2]] == REGIONS[regions[195, 197]] == "background"


def test_the_map_is_symmetric_but_for_a_pixel():
    regions = region_map(200)
    assert (regions == regions[:, ::-1]).mean() > 0.97
    assert (regions[:, 1:] == regions[:, :0:-1]).all()  # about column 100


@pytest.mark.parametrize("px", [32, 48, 64, 96])
def test_smaller_maps_have_the_same_regions_and_shares(px):
    large, small = region_map(200), region_map(px)
    assert small.shape == (px, px)
    shares = [np.bincount(regions.ravel(), minlength=len(REGIONS)) / regions.size for regions in (large, small)]
    assert (shares[1] > 0).all() and np.abs(shares[0] - shares[1]).max() < 0.02


def test_shares_by_hand():
    hair, nose, mouth = (REGIONS.index(name) for name in ("hair", "nose", "mouth"))
    regions = np.array([[hair, hair], [nose, mouth]])
    saliency = np.array([[[1.0, 2.0], [4.0, 1.0]], [[0.0, -9.0], [0.0, 5.0]]])
    shares = region_shares(saliency, regions)
    assert shares.shape == (2, len(REGIONS))
    assert shares[0, [hair, nose, mouth]].tolist() == pytest.approx([3 / 8, 4 / 8, 1 / 8])
    assert shares[1, [hair, nose, mouth]].tolist() == [0, 0, 1]  # what is negative has no share


def test_shares_sum_to_one_or_are_missing():
    saliency = np.random.default_rng(0).normal(size=(5, 48, 48))
    saliency[3] = -1
    sums = region_shares(saliency, region_map(48)).sum(axis=1)
    assert np.isnan(sums[3]) and np.delete(sums, 3) == pytest.approx(1)


def test_a_flat_map_is_shared_out_by_area():
    regions = region_map(64)
    shares = region_shares(np.ones((1, 64, 64)), regions)[0]
    assert shares == pytest.approx(np.bincount(regions.ravel(), minlength=len(REGIONS)) / 64**2)


def shares_table(shares: np.ndarray, head: str = "age") -> pd.DataFrame:
    table = pd.DataFrame(shares, columns=SHARES)
    table.insert(0, "image_id", [f"face{k}" for k in range(len(table))])
    return table.assign(head=head, method="layer_cam")


def test_groups_have_their_mean_shares_and_small_ones_only_their_count():
    shares = np.zeros((5, len(REGIONS)))
    shares[:, 0], shares[:, 7] = [0.2, 0.4, 0.9, 0.5, np.nan], [0.8, 0.6, 0.1, 0.5, np.nan]
    table = shares_table(shares)
    groups = pd.DataFrame({"gender": ["male", "male", "female", None, "male"]}, index=table["image_id"])
    result = group_shares(table, groups, min_group=2).set_index("group")
    assert result["n"].to_dict() == {"male": 2, "female": 1}  # unknown labels and flat maps are in no group
    assert result.loc["male", "share_hair"] == pytest.approx(0.3)
    assert result.loc["male", "share_background"] == pytest.approx(0.7)
    assert np.isnan(result.loc["female", "share_hair"])


def test_a_planted_difference_between_correct_and_wrong_is_found_and_no_other():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(len(REGIONS)), 80)
    right = np.arange(80) % 2 == 0
    table = shares_table(shares)
    table.loc[~right, "share_background"] += 0.3
    correct = pd.DataFrame({"age": right.astype(float)}, index=table["image_id"])
    result = correct_against_wrong(table, correct, min_group=10, resamples=200, seed=0).set_index("region")
    assert result.loc["background", "answer"] == "found" and -0.4 < result.loc["background", "value"] < -0.2
    assert result["answer"].drop("background").eq("cannot tell").all()
    assert result["n_correct"].eq(40).all() and result["n_wrong"].eq(40).all()
    assert result.loc["background", "low"] <= result.loc["background", "value"] <= result.loc["background", "high"] < 0


def test_too_few_wrong_predictions_are_not_compared():
    table = shares_table(np.full((12, len(REGIONS)), 1 / len(REGIONS)))
    correct = pd.DataFrame({"age": [1.0] * 9 + [0.0] * 2 + [np.nan]}, index=table["image_id"])
    result = correct_against_wrong(table, correct, min_group=3, resamples=50, seed=0)
    assert result["answer"].eq("too few").all() and result["value"].isna().all()
    assert result[["n_correct", "n_wrong"]].drop_duplicates().to_numpy().tolist() == [[9, 2]]
