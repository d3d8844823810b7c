"""Regions: where they lie, shares by hand, and comparisons of groups that find what was planted."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facelib.explain.attribution import Explained
from facelib.explain.faithfulness import curve_scores
from facelib.explain.methods import METHODS
from facelib.explain.regions import (
    REGIONS,
    SHARES,
    against_shuffled,
    background_findings,
    correct_against_wrong,
    correct_finding,
    edge_rows,
    edges_background,
    group_shares,
    headline,
    region_area,
    region_map,
    region_shares,
    shuffled_shares,
)
from facelib.schema import AGE, GENDER
from facelib.statistics import Bootstrap


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
    assert shares == pytest.approx(list(region_area(64).values())) and list(region_area(64)) == list(REGIONS)


def test_the_attributions_table_has_shares_and_scores_of_every_map(sample, explained_sample):
    maps, _, numbers, table = explained_sample
    assert list(table) == ["image_id", "head", "method", *SHARES, "deletion", "insertion", "faithfulness"]
    assert len(table) == len(sample.outputs) * (4 * 6 + 4) and not table[["image_id", "faithfulness"]].isna().any(
        axis=None
    )
    part = table[(table["head"] == "gender") & (table["method"] == "lime")]
    assert part["image_id"].tolist() == list(sample.labels.index[:4])
    np.testing.assert_array_equal(part[SHARES], region_shares(maps["gender", "lime"], region_map(32)))
    np.testing.assert_array_equal(part["deletion"], curve_scores(numbers["gender", "lime"])["deletion"])
    edges = edge_rows(table)
    assert edges["image_id"].tolist() == list(sample.labels.index) and (edges["method"] == "edges").all()


# --- face or background -----------------------------------------------------------------------------------


def background_table(shares: dict[str, float], edges: float) -> pd.DataFrame:
    """Twenty faces whose LayerCAM maps have these mean shares on the background, by output."""
    noise, parts = np.random.default_rng(0).uniform(-0.02, 0.02, 20), []
    for head, share in shares.items():
        for method, mean in (("layer_cam", share), ("edges", edges), ("lime", 0.9)):
            table = pd.DataFrame({"image_id": np.arange(20), "head": head, "method": method})
            rest = dict.fromkeys(SHARES[:-1], (1 - mean) / 7)
            parts.append(table.assign(**rest, share_background=mean + noise))
    return pd.concat(parts, ignore_index=True)


def shuffled_table(heads: list[str], share: float) -> pd.DataFrame:
    """Three networks with shuffled weights whose maps of the same faces have this mean share on the background."""
    rng, parts = np.random.default_rng(1), []
    for head in heads:
        for _ in range(3):
            noise = rng.uniform(-0.02, 0.02, 20)
            table = pd.DataFrame(
                {"image_id": np.arange(20), "head": head, **dict.fromkeys(SHARES[:-1], (1 - share) / 7)}
            )
            parts.append(table.assign(share_background=share + noise - noise.mean()))
    return pd.concat(parts, ignore_index=True)


def checks(outputs: list[str], fails: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gains and sanity in which outputs pass all checks but those that they fail: `baseline` or `weights`."""
    rows = [(head, method, baseline) for head in outputs for method in METHODS for baseline in ("edges", "noise")]
    gains = pd.DataFrame(rows, columns=["head", "method", "baseline"]).assign(
        value=0.1, low=0.05, high=0.2, n=20, unit="years", answer="better"
    )
    sanity = gains[gains["baseline"] == "edges"].drop(columns="baseline").assign(answer="changes")
    for head, check in fails.items():
        mine = (gains["head"] == head) & (gains["method"] == "layer_cam")
        if check == "baseline":
            gains.loc[mine & (gains["baseline"] == "noise"), "answer"] = "inconclusive"
        else:
            sanity.loc[(sanity["head"] == head) & (sanity["method"] == "layer_cam"), "answer"] = "stays"
    return gains, sanity


@pytest.mark.parametrize(
    ("shares", "fails", "face", "background", "untrusted"),
    [
        ({"age": 0.1, "gender": 0.1}, {}, "shuffled weights for age and gender", None, None),
        ({"age": 0.1, "gender": 0.5}, {}, "shuffled weights for age;", "shuffled weights for gender", None),
        ({"age": 0.1, "gender": 0.1}, {"age": "baseline"}, "shuffled weights for gender", None, "Maps of age"),
        ({"age": 0.1, "gender": 0.5}, {"gender": "weights"}, "shuffled weights for age", None, "Maps of gender"),
        ({"age": 0.1, "gender": 0.5}, {"age": "weights", "gender": "baseline"}, None, None, "Maps of age and gender"),
    ],
)
def test_only_maps_that_pass_both_checks_say_face_or_background(sample, shares, fails, face, background, untrusted):
    few = dataclasses.replace(
        sample,
        outputs=[Explained("age", AGE, None, "age"), Explained("gender", GENDER, None, "gender", np.ones(6, int))],
    )
    table = background_table(shares, 0.2)
    compared, edges = against_shuffled(table, shuffled_table(list(shares), 0.27)), edges_background(table)
    found = compared[compared["region"] == "background"]
    assert dict(zip(found["head"], found["value"], strict=True)) == pytest.approx(shares, abs=0.01)
    lead, numbers = background_findings(compared, edges, *checks(list(shares), fails), few)
    assert lead.key == "explain.regions" and numbers.key == "explain.background" and numbers.estimate == edges
    assert ("weight on the face and hair" in lead.text) == (face is not None) and (face or "") in lead.text
    assert ("weight on the background" in lead.text) == (background is not None) and (background or "") in lead.text
    assert ("do not pass" in lead.text) == (untrusted is not None) and (untrusted or "") in lead.text
    assert f"{100 * region_area(32)['background']:.1f} % of the picture" in numbers.text and str(edges) in numbers.text
    assert "27.0 % of those of networks with shuffled weights" in numbers.text


def test_a_share_that_networks_without_knowledge_have_too_says_nothing(sample):
    """Half the picture's share of the background would be the face, if shuffled weights did not give the same."""
    table, shares = background_table({"age": 0.14, "gender": 0.14}, 0.2), {"age": 0.14, "gender": 0.14}
    compared = against_shuffled(table, shuffled_table(list(shares), 0.14))
    found = compared[compared["region"] == "background"]
    assert found["answer"].eq("inconclusive").all() and found["n"].eq(20).all()
    lead, _ = background_findings(compared, edges_background(table), *checks(["age", "gender"], {}), sample)
    assert "do not tell" in lead.text and "do not pass" not in lead.text


def test_shares_are_compared_on_the_faces_that_the_shuffled_networks_drew():
    table, shuffled = background_table({"age": 0.1}, 0.2), shuffled_table(["age"], 0.27)
    row = against_shuffled(table, shuffled[shuffled["image_id"] < 12]).set_index("region").loc["background"]
    own = table.query("method == 'layer_cam'").set_index("image_id")["share_background"]
    other = shuffled.groupby("image_id")["share_background"].mean()
    expected = stats.ttest_rel(own[:12], other[:12]).confidence_interval(1 - 0.05 / len(REGIONS))
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert row["answer"] == "less" and row["n"] == 20 and row["shuffled"] == pytest.approx(other[:12].mean())


def test_networks_with_shuffled_weights_draw_maps_of_every_output(sample):
    shuffled = shuffled_shares(sample)
    assert len(shuffled) == 3 * len(sample.outputs) * len(sample.images)
    assert shuffled[SHARES].dropna().sum(axis=1).to_numpy() == pytest.approx(1)
    draws = shuffled[shuffled["head"] == "gender"].groupby("image_id")["share_background"].nunique()
    assert (draws == 3).all()


def test_the_headline_has_background_shares_and_gains_over_edges():
    shares = against_shuffled(background_table({"age": 0.1}, 0.2), shuffled_table(["age"], 0.27))
    gains, _ = checks(["age"], {})
    results = headline(shares, gains)
    assert list(results) == ["explain.age.background_share", *[f"explain.age.{name}_over_edges" for name in METHODS]]
    assert results["explain.age.background_share"].n == 20 and results["explain.age.background_share"].unit == "share"
    assert (
        results["explain.age.lime_over_edges"].value == 0.1 and results["explain.age.lime_over_edges"].unit == "years"
    )


# --- by group, correct against wrong ----------------------------------------------------------------------


def shares_table(shares: np.ndarray, head: str = "age") -> pd.DataFrame:
    table = pd.DataFrame(shares, columns=SHARES)
    table.insert(0, "image_id", [f"face{k}" for k in range(len(table))])
    return table.assign(head=head, method="layer_cam")


def test_groups_have_their_mean_shares_and_small_ones_only_their_count(sample):
    shares = np.zeros((6, len(REGIONS)))
    shares[:, 0], shares[:, 7] = [0.2, 0.4, 0.9, 0.5, 0.1, np.nan], [0.8, 0.6, 0.1, 0.5, 0.9, np.nan]
    table = shares_table(shares).assign(image_id=list(sample.labels.index))
    others = table.assign(method="lime", **dict.fromkeys(SHARES, 0.0))
    result = group_shares(pd.concat([table, others]), sample)  # groups of fewer than three are masked
    assert set(result["attribute"]) == {attribute.name for attribute in sample.run.attributes}
    result = result[result["attribute"] == "expression"].set_index("group")
    assert result["n"].to_dict() == {"neutral": 3, "smiling": 1}  # unknown labels and flat maps are in no group
    assert result.loc["neutral", "share_hair"] == pytest.approx(0.7 / 3)
    assert result.loc["neutral", "share_background"] == pytest.approx(2.3 / 3)
    assert np.isnan(result.loc["smiling", "share_hair"])


def test_a_planted_difference_between_correct_and_wrong_is_found_and_no_other(sample):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(len(REGIONS)), 80)
    right = np.arange(80) % 2 == 0
    table = shares_table(shares)
    table.loc[~right, "share_background"] += 0.3
    correct = pd.DataFrame({"age": right.astype(float)}, index=table["image_id"])
    differences = correct_against_wrong(table, correct, min_group=10, bootstrap=Bootstrap(200))
    result = differences.set_index("region")
    assert result.loc["background", "answer"] == "found" and -0.4 < result.loc["background", "value"] < -0.2
    assert result["answer"].drop("background").eq("inconclusive").all()
    assert result["n_correct"].eq(40).all() and result["n_wrong"].eq(40).all()
    assert result.loc["background", "low"] <= result.loc["background", "value"] <= result.loc["background", "high"] < 0
    tests = [stats.mannwhitneyu(table.loc[right, name], table.loc[~right, name]).pvalue for name in SHARES]
    assert result["p_adjusted"].tolist() == pytest.approx(stats.false_discovery_control(tests))
    finding = correct_finding(differences, sample)
    assert finding.key == "explain.correct_wrong" and finding.n == 6
    assert f"{100 * result.loc['background', 'value']:+.1f} points on background (age)" in finding.text
    assert "nose" not in finding.text


def test_a_difference_below_a_hundredth_of_a_map_is_not_found():
    table = shares_table(np.full((80, len(REGIONS)), 1 / len(REGIONS)))
    right = np.arange(80) % 2 == 0
    table["share_forehead"] += np.where(right, 0.006, 0) + np.linspace(0, 0.001, 80)
    correct = pd.DataFrame({"age": right.astype(float)}, index=table["image_id"])
    row = correct_against_wrong(table, correct, 10, Bootstrap(50)).set_index("region").loc["forehead"]
    assert row["p_adjusted"] < 0.05 and row["answer"] == "inconclusive"


def test_too_few_wrong_predictions_are_not_compared():
    table = shares_table(np.full((12, len(REGIONS)), 1 / len(REGIONS)))
    correct = pd.DataFrame({"age": [1.0] * 9 + [0.0] * 2 + [np.nan]}, index=table["image_id"])
    result = correct_against_wrong(table, correct, min_group=3, bootstrap=Bootstrap(50))
    assert result["answer"].eq("too few").all() and result["value"].isna().all()
    assert result[["n_correct", "n_wrong"]].drop_duplicates().to_numpy().tolist() == [[9, 2]]
