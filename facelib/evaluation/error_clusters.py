"""Which errors are alike to a network that never saw a label, and what each kind has in common."""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

from facelib.finding import Finding
from facelib.runs import RunFolder
from facelib.schema import Attribute, ClassAttribute, class_attributes
from facelib.statistics import adjusted, rate

LARGE_ERROR = 0.9  # errors in years above this quantile count as errors
COMPONENTS = 16  # principal components that distances are measured in
MIN_CLUSTER = 8
MOST_NOISE = 0.5  # share of the errors in no cluster from which k-means is used
MARGIN = 0.05  # of stability above the null, from which clusters are believed, and one method preferred to the other
NULLS = 20  # structureless sets of points, on each of which a method is tried
HALVINGS = 5
UNSURE = 0.8  # confidence below which a prediction counts as unsure
TOP = 4  # traits shown per cluster


def error_column(attribute: Attribute) -> str:
    """The column of `find_errors` that marks an attribute's errors."""
    name = attribute.name
    return f"wrong_{name}" if isinstance(attribute, ClassAttribute) else f"large_{name}_error"


def find_errors(frame: pd.DataFrame, attributes: tuple[Attribute, ...]) -> pd.DataFrame:
    """Which rows of an evaluation frame are errors, and of which kind.

    Bool columns wrong_<class attribute>, large_<years>_error (the worst tenth) and any_error; where label or prediction
    is unknown there is no error.
    """
    kinds = {}
    for attribute in attributes:
        is_class = isinstance(attribute, ClassAttribute)
        # Whole years would tie at the quantile; bands hold whole years.
        predicted = attribute.prediction if is_class or not attribute.exact else f"{attribute.name}_unrounded"
        error = attribute.errors(frame, frame[predicted]).abs()
        kinds[error_column(attribute)] = error > (0 if is_class else error.quantile(LARGE_ERROR))
    table = pd.DataFrame(kinds, index=frame.index)
    return table.assign(any_error=table.any(axis=1))


def error_shares(kinds: pd.DataFrame) -> pd.DataFrame:
    """Share of each kind of error with its interval, by kind."""
    return pd.DataFrame({name: rate(marked.sum(), len(kinds)).to_dict() for name, marked in kinds.items()}).T


def cluster_run(run: RunFolder, frame: pd.DataFrame, kinds: pd.DataFrame, embeddings: np.ndarray):
    """`cluster` of the embeddings (e, d) of a run's errors, saved as the table error_clusters.

    Cluster (e,), position in a picture (e, 2), and facts of the clustering.
    """
    labels, facts = cluster(embeddings, run.settings.seed)
    positions = map_2d(embeddings, run.settings.seed)
    errors = pd.concat([frame[["image_id"]], kinds], axis=1)[kinds["any_error"]]
    run.save_table(errors.assign(cluster=labels, x=positions[:, 0], y=positions[:, 1]), "error_clusters")
    return labels, positions, facts


def cluster(embeddings: np.ndarray, seed: int) -> tuple[np.ndarray, dict]:
    """Cluster embeddings (n, d) by density (HDBSCAN) and by k-means, and choose one of the two.

    Stability is the mean adjusted Rand index of two clusterings, each of one half of the rows and extended to the other
    by the nearest clustered row. Even points without structure have some: the null is that of normally distributed
    points with the same variances. K-means puts every row into a cluster and is used unless HDBSCAN finds two
    clusters or more, leaves out less than `MOST_NOISE`, and is above its null by more than `MARGIN` and by at least
    `MARGIN` more than k-means.

    Returns the cluster of each row, -1 for noise, and facts: method, why, clusters, noise (share), stability, null
    (95th percentile), holds (stability above it by `MARGIN`), silhouette (mean within clusters); `methods` has these of
    both methods.
    """
    if len(embeddings) < MIN_CLUSTER:
        none = {"clusters": 0, "noise": 1.0, "stability": np.nan, "null": np.nan, "holds": False, "silhouette": np.nan}
        facts = {"method": "none", "why": f"fewer than {MIN_CLUSTER} errors", **none, "methods": []}
        return np.full(len(embeddings), -1), facts
    points = principal_components(embeddings, seed)
    clusterings = {"HDBSCAN": _hdbscan(points), "k-means": _best_k_means(points, seed)}
    quality = {name: _quality(points, labels, name, seed) for name, labels in clusterings.items()}
    density, means = quality["HDBSCAN"], quality["k-means"]
    gains = [part["stability"] - part["null"] for part in (density, means)]
    method, why = "k-means", "HDBSCAN is not more stable above its null by the margin"
    if density["clusters"] < 2:
        why = f"HDBSCAN finds {density['clusters']}"
    elif density["noise"] >= MOST_NOISE:
        why = f"HDBSCAN leaves out {100 * density['noise']:.0f} %"
    elif gains[0] > MARGIN and not gains[0] < gains[1] + MARGIN:
        method, why = "HDBSCAN", f"it finds {density['clusters']} and leaves out {100 * density['noise']:.0f} %"
    methods = [{"method": name, "used": name == method, **measured} for name, measured in quality.items()]
    return clusterings[method], {"method": method, "why": why, **quality[method], "methods": methods}


def _quality(points: np.ndarray, labels: np.ndarray, method: str, seed: int) -> dict:
    """Clusters, noise, stability, null and silhouette of a clustering."""
    rng, clusters = np.random.default_rng(seed), int(labels.max() + 1)
    inside = labels >= 0
    stability = null = silhouette = float("nan")
    if 1 < clusters < inside.sum():
        stability = np.mean([_agreement(points, method, clusters, rng) for _ in range(HALVINGS)])
        shapeless = (rng.normal(scale=points.std(axis=0), size=points.shape) for _ in range(NULLS))
        null = np.percentile([_agreement(noise, method, clusters, rng) for noise in shapeless], 95)
        silhouette = silhouette_score(points[inside], labels[inside])
    measured = {"stability": float(stability), "null": float(null), "holds": bool(stability > null + MARGIN)}
    return {"clusters": clusters, "noise": float((~inside).mean()), **measured, "silhouette": float(silhouette)}


def _agreement(points: np.ndarray, method: str, clusters: int, rng: np.random.Generator) -> float:
    """Adjusted Rand index of clusterings of two disjoint halves of the rows, each extended to all rows."""
    extended = []
    for half in np.array_split(rng.permutation(len(points)), 2):
        found = _k_means(points[half], clusters, 0) if method == "k-means" else _hdbscan(points[half])
        members = half[found >= 0]
        if not len(members):
            return 0.0
        nearest = NearestNeighbors(n_neighbors=1).fit(points[members]).kneighbors(points, return_distance=False)
        extended.append(found[found >= 0][nearest[:, 0]])
    return float(adjusted_rand_score(*extended))


def principal_components(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """Leading principal components of unit-length embeddings."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
    components = min(COMPONENTS, len(unit) - 1, unit.shape[1])
    return PCA(components, random_state=seed).fit_transform(unit.astype(np.float64))


def _hdbscan(points: np.ndarray) -> np.ndarray:
    smallest = max(2, min(MIN_CLUSTER, len(points) // 4))
    return HDBSCAN(min_cluster_size=smallest, min_samples=min(4, smallest), copy=True).fit_predict(points)


def _k_means(points: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    return KMeans(max(1, min(clusters, len(points))), n_init=4, random_state=seed).fit_predict(points)


def _best_k_means(points: np.ndarray, seed: int) -> np.ndarray:
    """The clustering into two to eight with the largest silhouette; one cluster where there are too few rows."""
    most = min(8, len(points) // MIN_CLUSTER)
    if most < 2:
        return np.zeros(len(points), int)
    candidates = [_k_means(points, k, seed) for k in range(2, most + 1)]
    return max(candidates, key=lambda labels: silhouette_score(points, labels))


def map_2d(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """Positions (n, 2) for a picture, by t-SNE; distances between far clusters mean nothing."""
    if len(embeddings) < MIN_CLUSTER:
        return np.zeros((len(embeddings), 2))
    points = principal_components(embeddings, seed)
    perplexity = float(np.clip(len(points) / 4, 2, 30))
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)


def traits(
    frame: pd.DataFrame, attributes: tuple[Attribute, ...], issues: pd.DataFrame, quality: pd.DataFrame
) -> pd.DataFrame:
    """Properties of each row of an evaluation frame that a cluster may have in common: a bool column each.

    Groups by label, doubted labels (of the table label_issues), quality flags, and unsure predictions.
    """
    ids, columns = frame["image_id"], {}
    for attribute in attributes:
        title = "{}" if isinstance(attribute, ClassAttribute) else f"{attribute.name} {{}}"
        for value in frame[attribute.group_column].dropna().unique():
            columns[title.format(value)] = frame[attribute.group_column] == value
    for name, rows in issues[issues["is_issue"].astype(bool)].groupby("attribute"):
        columns[f"{name} label flagged"] = ids.isin(rows["image_id"])
    for flag in (column for column in quality if column.startswith("is_")):
        columns[f"quality: {flag.removeprefix('is_')}"] = ids.isin(quality.loc[quality[flag], "image_id"])
    for attribute in class_attributes(attributes):
        columns[f"{attribute.name} confidence below {UNSURE}"] = attribute.confidence(frame) < UNSURE
    return pd.DataFrame({name: np.asarray(value, bool) for name, value in columns.items()})


def describe(labels: np.ndarray, is_error: np.ndarray, properties: pd.DataFrame, strata: np.ndarray) -> pd.DataFrame:
    """What is over-represented in each cluster of errors (e,), -1 for none, against all other errors.

    `is_error` (n,) marks errors among the rows of `traits`; `strata` (n,) are their labels, see `splits.stratum`.
    Columns: cluster, n, trait, share (in the cluster), share_others (of the other errors), share_alike (of faces that
    are no errors, weighted to the labels of the cluster; nan without any), lift (over the other errors), p_adjusted
    (Fisher's exact test against the other errors, one-sided, adjusted for all tests); at most `TOP` traits with
    p_adjusted below 0.05, else the strongest one.
    """
    alike = properties[~is_error].astype(float).groupby(strata[~is_error]).mean()
    errors, own, rows = properties[is_error], strata[is_error], []
    for number in sorted(set(labels) - {-1}):
        inside = labels == number
        weight = pd.Series(own[inside]).value_counts().reindex(alike.index, fill_value=0)
        expected = alike.mul(weight, axis=0).sum() / (weight.sum() or np.nan)
        members, others = errors[inside], errors[~inside]
        for trait in properties:
            hits, base = int(members[trait].sum()), int(others[trait].sum())
            share, share_others = hits / len(members), base / max(len(others), 1)
            lift = share / max(share_others, 0.5 / max(len(others), 1))
            table = [[hits, len(members) - hits], [base, len(others) - base]]
            p_value = stats.fisher_exact(table, alternative="greater").pvalue
            rows.append((number, len(members), trait, share, share_others, expected[trait], lift, p_value))
    columns = ["cluster", "n", "trait", "share", "share_others", "share_alike", "lift", "p_adjusted"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = adjusted(table["p_adjusted"])
    table = table[table["share"] > 0].sort_values(["cluster", "p_adjusted", "lift"], ascending=[True, True, False])
    rank = table.groupby("cluster").cumcount()
    return table[(rank == 0) | ((rank < TOP) & (table["p_adjusted"] < 0.05))].reset_index(drop=True)


def clusters_finding(facts: dict, errors: int) -> Finding:
    """How many clusters there are, by which method, and how stable they are."""
    if not facts["clusters"]:
        return Finding("errors.clusters", f"{errors} errors are too few to cluster.", n=errors)
    clusters = f"{facts['clusters']} cluster{'s' * (facts['clusters'] > 1)}"
    text = f"By {facts['method']}, {errors} errors divide into {clusters} ({facts['why']})."
    if np.isfinite(facts["stability"]):
        found = "The two halves of the errors give similar clusters."
        if not facts["holds"]:
            found = f"Less than {MARGIN} above that, clusters are not shown to be more than an arbitrary partition."
        text += f" Stability is {facts['stability']:.2f}; 95 % of sets without structure reach at most "
        text += f"{facts['null']:.2f}. {found}"
    return Finding("errors.clusters", text, n=errors)
