"""Which errors are alike, and what each kind has in common against the rest."""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score, silhouette_score

from facelib.evaluation.headline import is_judged
from facelib.schema import P_ETHNICITY

LARGE_ERROR = 0.9  # age errors above this quantile count as errors
COMPONENTS = 16  # principal components that distances are measured in
MIN_CLUSTER = 8
MOST_NOISE = 0.5  # share of the errors in no cluster from which k-means is used
STABLE = 0.5  # adjusted Rand index from which a half of the errors gives much the same clusters
MEASURED = ("stability", "silhouette")


def find_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Which rows are errors, and of which kind.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation.evaluation_frame`.

    Returns
    -------
    DataFrame of bool
        wrong_gender, wrong_ethnicity, large_age_error (the worst tenth), any_error; what is unknown is no error.
    """
    error = (frame["age_smooth"] - frame["age"]).abs()  # whole years would tie at the quantile
    kinds = pd.DataFrame(
        {
            **{
                f"wrong_{name}": is_judged(frame, name) & (frame[name] != frame[f"{name}_pred"])
                for name in ("gender", "ethnicity")
            },
            "large_age_error": error > error.quantile(LARGE_ERROR),
        }
    )
    return kinds.assign(any_error=kinds.any(axis=1))


def cluster(embeddings: np.ndarray, seed: int) -> tuple[np.ndarray, dict]:
    """Cluster embeddings by density (HDBSCAN) and by k-means, and choose one of the two.

    HDBSCAN is preferred, for it need not be told how many clusters there are and leaves out what belongs to none. Where
    it finds fewer than two, leaves out half of the rows, or is unstable (below `STABLE`) and k-means less so, k-means
    takes its place.

    Parameters
    ----------
    embeddings : float array of shape (n, d)
    seed : int

    Returns
    -------
    labels : int array of shape (n,)
        -1 for noise.
    facts : dict
        method, why, clusters, noise (share), stability (mean adjusted Rand index of clusterings of halves of the rows
        against this one), silhouette (mean of the rows within clusters), both nan for fewer than two clusters;
        `methods` has the last four for both methods, one dictionary each.
    """
    if len(embeddings) < MIN_CLUSTER:
        labels, none = np.full(len(embeddings), -1), {"clusters": 0, "noise": 1.0} | dict.fromkeys(MEASURED, np.nan)
        return labels, {"method": "none", "why": f"fewer than {MIN_CLUSTER} errors", **none, "methods": []}
    reduced = reduce(embeddings, seed)
    found = {"HDBSCAN": _hdbscan(reduced), "k-means": _best_k_means(reduced, seed)}
    facts = {name: _judge(reduced, labels, name, seed) for name, labels in found.items()}
    by_density, stabler = facts["HDBSCAN"], facts["k-means"]["stability"]
    if by_density["clusters"] < 2:
        method, why = "k-means", f"HDBSCAN finds {by_density['clusters']}"
    elif by_density["noise"] >= MOST_NOISE:
        method, why = "k-means", f"HDBSCAN leaves out {by_density['noise']:.0%}"
    elif by_density["stability"] < min(STABLE, stabler):
        method, why = "k-means", f"HDBSCAN has a stability of {by_density['stability']:.2f}"
    else:
        method, why = "HDBSCAN", f"it finds {by_density['clusters']} and leaves out {by_density['noise']:.0%}"
    methods = [{"method": name, "used": name == method, **measured} for name, measured in facts.items()]
    return found[method], {"method": method, "why": why, **facts[method], "methods": methods}


def _judge(reduced: np.ndarray, labels: np.ndarray, method: str, seed: int) -> dict:
    """Clusters, noise, stability and silhouette of a clustering."""
    rng, clusters, agreement = np.random.default_rng(seed), int(labels.max() + 1), []
    for trial in range(5):
        half = np.sort(rng.permutation(len(reduced))[: max(2, len(reduced) // 2)])
        again = _k_means(reduced[half], clusters, trial) if method == "k-means" else _hdbscan(reduced[half])
        agreement.append(adjusted_rand_score(labels[half], again))
    inside = labels >= 0
    measured = float("nan"), float("nan")
    if 1 < clusters < inside.sum():
        measured = float(np.mean(agreement)), float(silhouette_score(reduced[inside], labels[inside]))
    return {"clusters": clusters, "noise": float((~inside).mean()), **dict(zip(MEASURED, measured, strict=True))}


def reduce(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """Leading principal components of unit-length embeddings."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
    components = min(COMPONENTS, len(unit) - 1, unit.shape[1])
    return PCA(components, random_state=seed).fit_transform(unit.astype(np.float64))


def _hdbscan(reduced: np.ndarray) -> np.ndarray:
    smallest = max(2, min(MIN_CLUSTER, len(reduced) // 4))
    return HDBSCAN(min_cluster_size=smallest, min_samples=min(4, smallest), copy=True).fit_predict(reduced)


def _k_means(reduced: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    return KMeans(max(1, min(clusters, len(reduced))), n_init=10, random_state=seed).fit_predict(reduced)


def _best_k_means(reduced: np.ndarray, seed: int) -> np.ndarray:
    """The clustering into two to eight with the largest silhouette; one cluster where there are too few rows."""
    most = min(8, len(reduced) // MIN_CLUSTER)
    if most < 2:
        return np.zeros(len(reduced), int)
    candidates = [_k_means(reduced, k, seed) for k in range(2, most + 1)]
    return max(candidates, key=lambda labels: silhouette_score(reduced, labels))


def map_2d(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """Positions (n, 2) for a picture, by t-SNE; distances between far clusters mean nothing."""
    if len(embeddings) < MIN_CLUSTER:
        return np.zeros((len(embeddings), 2))
    reduced = reduce(embeddings, seed)
    perplexity = float(np.clip(len(reduced) / 4, 2, 30))
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def traits(frame: pd.DataFrame, issues: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """Yes-or-no properties of each row that a cluster may have in common.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation.evaluation_frame`.
    issues, quality : DataFrame
        The tables label_issues and quality of the run.

    Returns
    -------
    DataFrame of bool
        In the order of `frame`: labels, doubted labels, poor quality, low confidence.
    """
    names = {}
    for column, title in (("age_band", "age {}"), ("gender_name", "{}"), ("ethnicity_name", "{}")):
        for value in frame[column].dropna().unique():
            names[title.format(value)] = (frame[column] == value).to_numpy()
    for attribute, rows in issues[issues["is_issue"]].groupby("attribute"):
        names[f"{attribute} label doubted"] = frame["image_id"].isin(rows["image_id"]).to_numpy()
    for flag in (column for column in quality if column.startswith("is_")):
        names[f"quality: {flag.removeprefix('is_')}"] = frame["image_id"].isin(quality.loc[quality[flag], "image_id"])
    confidence = {
        "gender": np.maximum(frame["p_female"], 1 - frame["p_female"]).to_numpy(),
        "ethnicity": frame[list(P_ETHNICITY)].to_numpy().max(axis=1, initial=0),
    }
    names |= {f"{head} confidence below 0.8": chance < 0.8 for head, chance in confidence.items()}
    return pd.DataFrame({name: np.asarray(value, bool) for name, value in names.items()})


def describe(labels: np.ndarray, is_error: np.ndarray, properties: pd.DataFrame, top: int = 4) -> pd.DataFrame:
    """What is over-represented in each cluster of errors against the rows that are no error.

    Parameters
    ----------
    labels : int array of shape (e,)
        Cluster of each error.
    is_error : bool array of shape (n,)
    properties : DataFrame of bool, n rows
        From `traits`.
    top : int
        Traits kept per cluster.

    Returns
    -------
    DataFrame
        cluster, n, trait, share (in the cluster), share_correct, lift, p_adjusted (Fisher's exact test, one-sided,
        Benjamini-Hochberg over all tests); traits with p_adjusted below 0.05, else the strongest one.
    """
    correct = properties[~is_error]
    inside = properties[is_error].reset_index(drop=True)
    rows = []
    for number in sorted(set(labels) - {-1}):
        members = inside[labels == number]
        for trait in properties:
            hits, base = int(members[trait].sum()), int(correct[trait].sum())
            table = [[hits, len(members) - hits], [base, len(correct) - base]]
            share, expected = hits / len(members), base / max(len(correct), 1)
            rows.append(
                {
                    "cluster": number,
                    "n": len(members),
                    "trait": trait,
                    "share": share,
                    "share_correct": expected,
                    "lift": share / max(expected, 0.5 / max(len(correct), 1)),
                    "p_adjusted": stats.fisher_exact(table, alternative="greater").pvalue,
                }
            )
    table = pd.DataFrame(rows, columns=["cluster", "n", "trait", "share", "share_correct", "lift", "p_adjusted"])
    if table.empty:
        return table
    table["p_adjusted"] = stats.false_discovery_control(table["p_adjusted"])
    table = table[table["share"] > 0].sort_values(["cluster", "p_adjusted", "lift"], ascending=[True, True, False])
    rank = table.groupby("cluster").cumcount()
    return table[(rank == 0) | ((rank < top) & (table["p_adjusted"] < 0.05))].reset_index(drop=True)
