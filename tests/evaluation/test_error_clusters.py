"""Error clusters: planted groups come back, and what they have in common is named with its lift."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score, silhouette_score

from facelib.evaluation import error_clusters
from facelib.evaluation.error_clusters import (
    cluster,
    cluster_run,
    clusters_finding,
    describe,
    error_shares,
    find_errors,
    map_2d,
    principal_components,
    traits,
)
from facelib.runs import start_run
from facelib.schema import ETHNICITY, GENDER, UTKFACE_ATTRIBUTES, ClassAttribute

EXPRESSION = ClassAttribute("expression", classes=("neutral", "smiling"))


def planted(sizes: list[int], spread: float = 0.15, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, 64) around as many directions as there are sizes, and which direction each is around."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(64, len(sizes))))[0].T
    truth = np.repeat(np.arange(len(sizes)), sizes)
    noise = rng.normal(size=(len(truth), 64)) * spread / 8
    return (directions[truth] + noise) * rng.uniform(1, 5, (len(truth), 1)), truth


# --- errors -----------------------------------------------------------------------------------------------


def test_errors_by_hand():
    frame = pd.DataFrame(
        {
            "age": [20.0] * 10 + [np.nan],
            "age_pred": [20.0] * 10 + [90.0],
            "age_unrounded": [20.0 + 0.01 * k for k in range(10)] + [90.0],  # of the same whole year
            "gender": [0.0] * 9 + [np.nan, 1.0],
            "gender_pred": [1.0] + [0.0] * 9 + [1.0],
            "ethnicity": [np.nan] + [2.0] * 10,
            "ethnicity_pred": [1.0, 3.0] + [2.0] * 9,
            "expression": [1.0, 1.0, 0.0] + [np.nan] * 8,
            "expression_pred": [1.0, 1.0, 1.0] + [0.0] * 8,
        }
    )
    kinds = find_errors(frame, (*UTKFACE_ATTRIBUTES, EXPRESSION))
    assert list(kinds) == ["large_age_error", "wrong_gender", "wrong_ethnicity", "wrong_expression", "any_error"]
    assert np.flatnonzero(kinds["wrong_gender"]).tolist() == [0]  # an unknown gender is no error
    assert np.flatnonzero(kinds["wrong_ethnicity"]).tolist() == [1]
    assert np.flatnonzero(kinds["large_age_error"]).tolist() == [9]  # the worst of ten, and no unknown age
    assert np.flatnonzero(kinds["wrong_expression"]).tolist() == [2]
    assert np.flatnonzero(kinds["any_error"]).tolist() == [0, 1, 2, 9]
    shares = error_shares(kinds)
    assert shares["value"].tolist() == pytest.approx([1 / 11, 1 / 11, 1 / 11, 1 / 11, 4 / 11])
    assert (shares["low"] < shares["value"]).all() and shares["n"].eq(11).all()
    assert find_errors(frame, (GENDER,)).columns.tolist() == ["wrong_gender", "any_error"]


# --- clusters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[40, 40, 40], [80, 30], [25] * 5])
def test_planted_clusters_are_recovered(sizes):
    embeddings, truth = planted(sizes)
    labels, facts = cluster(embeddings, seed=0)
    assert facts["clusters"] == len(sizes) == len(set(labels) - {-1})
    assert adjusted_rand_score(truth, labels) > 0.9
    assert facts["stability"] > 0.8 and facts["noise"] == np.mean(labels < 0)


def test_without_clusters_the_stability_is_that_of_the_null():
    shapeless = np.random.default_rng(0).normal(size=(150, 64))
    labels, facts = cluster(shapeless, seed=0)
    assert len(labels) == 150 and facts["method"] == "k-means" and not facts["holds"]
    assert facts["stability"] < facts["null"] + 0.05
    assert cluster(planted([40, 40, 40])[0], seed=0)[1]["holds"]


def test_a_long_cloud_without_gaps_does_not_hold_though_halves_agree():
    rng = np.random.default_rng(0)
    long = rng.normal(size=(200, 16)) * np.array([6.0, *[0.3] * 15])
    labels = (long[:, 0] > 0).astype(int)
    quality = error_clusters._quality(long, labels, "k-means", 0)
    assert quality["stability"] > 0.5 and not quality["holds"]


@pytest.mark.slow
def test_clusters_repeat_with_their_seed():
    embeddings = np.random.default_rng(1).normal(size=(80, 32))
    first, again = cluster(embeddings, seed=3), cluster(embeddings, seed=3)
    assert first[0].tolist() == again[0].tolist() and repr(first[1]) == repr(again[1])


def test_both_methods_are_measured_and_one_is_used_for_a_reason():
    embeddings, truth = planted([40, 40, 40])
    labels, facts = cluster(embeddings, seed=0)
    assert [(row["method"], row["used"]) for row in facts["methods"]] == [("HDBSCAN", True), ("k-means", False)]
    for row in facts["methods"]:
        assert row["clusters"] == 3 and row["stability"] > 0.8
        assert row["silhouette"] == pytest.approx(
            silhouette_score(principal_components(embeddings, 0), truth), abs=0.05
        )
    assert facts["method"] == "HDBSCAN" and facts["why"].startswith("it finds 3 and leaves out")
    assert facts["noise"] == np.mean(labels < 0)


def test_k_means_takes_over_where_density_finds_less_than_two():
    labels, facts = cluster(np.random.default_rng(0).normal(size=(150, 64)), seed=0)
    by_density, by_means = facts["methods"]
    assert facts["method"] == "k-means" and by_means["used"] and not by_density["used"]
    assert facts["why"] in ("HDBSCAN finds 0", f"HDBSCAN leaves out {by_density['noise']:.0%}", "HDBSCAN finds 1")
    assert by_density["clusters"] > 1 or np.isnan(by_density["stability"])  # finding nothing each time is no stability
    assert labels.min() == 0


@pytest.mark.parametrize(("stability", "method"), [(0.9, "HDBSCAN"), (0.84, "k-means"), (0.1, "k-means")])
def test_density_is_used_where_it_is_more_stable_by_the_margin(stability, method, monkeypatch):
    def quality(points, labels, name, seed):
        stable = stability if name == "HDBSCAN" else 0.8
        return {"clusters": 3, "noise": 0.1, "stability": stable, "null": 0.2, "holds": True, "silhouette": 0.0}

    monkeypatch.setattr(error_clusters, "_quality", quality)
    assert cluster(planted([20, 20, 20])[0], seed=0)[1]["method"] == method


@pytest.mark.parametrize(("n", "some"), [(0, False), (1, False), (5, False), (8, True), (12, True)])
def test_a_few_errors_are_no_obstacle(n, some):
    embeddings = np.random.default_rng(0).normal(size=(n, 64))
    labels, facts = cluster(embeddings, seed=0)
    assert len(labels) == n and (facts["clusters"] >= 1) == some
    assert map_2d(embeddings, seed=0).shape == (n, 2)


def test_the_length_of_an_embedding_does_not_count():
    embeddings, _ = planted([20, 20])
    longer = embeddings * np.linspace(0.1, 10, 40)[:, None]
    np.testing.assert_allclose(
        np.abs(principal_components(embeddings, 0)), np.abs(principal_components(longer, 0)), atol=1e-8
    )


def test_the_picture_keeps_planted_clusters_apart():
    embeddings, truth = planted([30, 30])
    positions = map_2d(embeddings, seed=0)
    assert positions.shape == (60, 2)
    centres = np.stack([positions[truth == k].mean(axis=0) for k in (0, 1)])
    assert (((positions[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1) == truth).all()


# --- what they have in common -----------------------------------------------------------------------------


def test_the_planted_trait_is_found_with_its_lift():
    # 60 errors in two clusters, 200 correct rows. Cluster 0: 27 of 30 old against 6 of 30, a lift of 0.9 / 0.2.
    is_error = np.arange(260) < 60
    labels = np.repeat([0, 1], 30)
    old, noise = np.zeros(260, bool), np.zeros(260, bool)
    old[:27], old[30:36], old[60:100] = True, True, True
    noise[::2] = True
    # Half of cluster 0 is male; 40 of 50 correct males are old, and none of the 150 others.
    strata = np.array(["male"] * 15 + ["female"] * 45 + ["male"] * 50 + ["female"] * 150)
    found = describe(labels, is_error, pd.DataFrame({"old": old, "noise": noise}), strata)
    first = found[found["cluster"] == 0]
    assert first["trait"].tolist() == ["old"]
    row = first.iloc[0]
    assert (row["n"], row["share"], row["share_others"]) == (30, 0.9, 0.2)
    assert row["share_alike"] == pytest.approx(0.5 * 0.8)
    assert row["lift"] == pytest.approx(4.5) and row["p_adjusted"] < 1e-6
    tests = [
        stats.fisher_exact(table, alternative="greater").pvalue
        for table in ([[27, 3], [6, 24]], [[15, 15], [15, 15]], [[6, 24], [27, 3]], [[15, 15], [15, 15]])
    ]
    assert row["p_adjusted"] == pytest.approx(stats.false_discovery_control(tests)[0])


def test_a_cluster_without_a_significant_trait_shows_its_strongest():
    labels, is_error = np.repeat([0, 1], 10), np.arange(50) < 20
    properties = pd.DataFrame({"even": np.arange(50) % 2 == 0, "third": np.arange(50) % 3 == 0})
    found = describe(labels, is_error, properties, np.full(50, "x"))
    assert len(found) == 2 and found["p_adjusted"].iloc[0] > 0.05


def test_noise_and_absent_traits_are_not_described():
    labels, is_error, strata = np.array([-1, -1, 0, 0]), np.arange(8) < 4, np.array(list("aaaabbbb"))
    never = pd.DataFrame({"never": np.zeros(8, bool), "always": np.ones(8, bool)})
    found = describe(labels, is_error, never, strata)
    assert found["cluster"].tolist() == [0] and found["trait"].tolist() == ["always"]
    assert found["share_alike"].isna().all()  # no correct face has the labels of the cluster
    assert describe(np.array([-1] * 4), is_error, never, strata).empty


def test_a_trait_that_no_other_error_has_counts_as_half_an_error():
    labels, is_error = np.repeat([0, 1], 20), np.arange(120) < 40
    found = describe(labels, is_error, pd.DataFrame({"only here": np.arange(120) < 20}), np.full(120, "x"))
    assert found["share_others"].tolist() == [0] and found["lift"].tolist() == pytest.approx([40])


def test_at_most_top_traits_are_listed(monkeypatch):
    labels, is_error = np.repeat([0, 1], 30), np.arange(130) < 60
    own = np.arange(130) < 30
    properties = pd.DataFrame({f"trait {k}": own ^ (np.arange(130) % (20 + k) == 0) for k in range(6)})
    found = describe(labels, is_error, properties, np.full(130, "x"))
    assert (found["cluster"] == 0).sum() == error_clusters.TOP == 4
    monkeypatch.setattr(error_clusters, "TOP", 9)
    assert (describe(labels, is_error, properties, np.full(130, "x"))["cluster"] == 0).sum() == 6


def test_traits_are_read_from_labels_issues_and_quality():
    frame = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "age_band": pd.Categorical(["0-4", "75+", None]),
            "gender_name": ["male", None, "female"],
            "ethnicity_name": ["White", "Asian", "Asian"],
            "expression_name": ["smiling", "neutral", None],
            "p_gender_male": [0.9, 0.25, 0.15],
            "p_gender_female": [0.1, 0.75, 0.85],
            **dict(zip(ETHNICITY.columns, ([0.9, 0.1, 0.7], 0.0, 0.0, 0.0, [0.1, 0.9, 0.3]), strict=True)),
            "p_expression_neutral": [0.5, 1.0, np.nan],
            "p_expression_smiling": [0.5, 0.0, np.nan],
        }
    )
    issues = pd.DataFrame(
        {"image_id": ["b", "b", "a"], "attribute": ["age", "gender", "age"], "is_issue": [True, False, False]}
    )
    quality = pd.DataFrame({"image_id": ["c", "a", "b"], "dark": [0.1, 0.9, 0.9], "is_dark": [True, False, False]})
    table = traits(frame, (*UTKFACE_ATTRIBUTES, EXPRESSION), issues, quality)
    found = {name: np.flatnonzero(table[name]).tolist() for name in table}
    assert found == {
        "age 0-4": [0],
        "age 75+": [1],
        "male": [0],
        "female": [2],
        "White": [0],
        "Asian": [1, 2],
        "smiling": [0],
        "neutral": [1],
        "age label flagged": [1],
        "quality: dark": [2],
        "gender confidence below 0.8": [1],
        "ethnicity confidence below 0.8": [2],
        "expression confidence below 0.8": [0],
    }


def test_what_was_not_learned_is_no_error():
    frame = pd.DataFrame(
        {"age": [20.0, 30.0], "age_unrounded": np.nan, "age_pred": np.nan, "gender": [0.0, 1.0],
         "gender_pred": [0.0, 0.0], "ethnicity": [2.0, 3.0], "ethnicity_pred": np.nan}
    )  # fmt: skip
    kinds = find_errors(frame, UTKFACE_ATTRIBUTES)
    assert kinds["any_error"].tolist() == kinds["wrong_gender"].tolist() == [False, True]


# --- of a run ---------------------------------------------------------------------------------------------


def test_a_runs_clusters_are_saved_with_their_kinds_and_positions(empty_runs):
    run = start_run("small", "smoke")
    embeddings, truth = planted([20, 20])
    is_error = np.arange(60) % 3 > 0
    kinds = pd.DataFrame({"wrong_gender": is_error, "any_error": is_error})
    frame = pd.DataFrame({"image_id": [f"face {k}" for k in range(60)]})
    labels, positions, facts = cluster_run(run, frame, kinds, embeddings)
    assert adjusted_rand_score(truth, labels) > 0.9 and facts["clusters"] == 2
    saved = run.load_table("error_clusters")
    assert saved["image_id"].tolist() == frame["image_id"][is_error].tolist()
    assert list(saved) == ["image_id", "wrong_gender", "any_error", "cluster", "x", "y"]
    assert saved["cluster"].tolist() == labels.tolist() and (saved[["x", "y"]].to_numpy() == positions).all()


@pytest.mark.parametrize(("stability", "kind"), [(0.7, "similar"), (0.2, "arbitrary partition"), (np.nan, None)])
def test_the_finding_says_how_far_clusters_can_be_trusted(stability, kind):
    facts = {"method": "HDBSCAN", "why": "it finds 3 and leaves out 5 %", "clusters": 3, "stability": stability}
    finding = clusters_finding(facts | {"null": 0.3, "holds": stability > 0.35}, 120)
    assert (
        finding.key == "errors.clusters"
        and finding.n == 120
        and "By HDBSCAN, 120 errors divide into 3 clusters" in finding.text
    )
    assert ("Stability" in finding.text) == (kind is not None) and (kind or "") in finding.text
    one = facts | {"clusters": 1, "stability": np.nan}
    assert clusters_finding(one, 12).text.startswith("By HDBSCAN, 12 errors divide into 1 cluster (")
    assert clusters_finding(one | {"clusters": 0}, 5).text == "5 errors are too few to cluster."
