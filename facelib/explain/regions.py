"""Facial regions in aligned coordinates, and the shares of attribution by region: by group, correct against wrong."""

import numpy as np
import pandas as pd
from scipy import stats
from skimage.draw import disk, ellipse

from facelib.statistics import CONFIDENCE, bootstrap

REGIONS = ("hair", "forehead", "eyes_brows", "nose", "cheeks", "mouth", "jaw", "background")
SHARES = [f"share_{name}" for name in REGIONS]


def region_map(px: int) -> np.ndarray:
    """Facial region of each pixel of an aligned crop, as an index into `REGIONS`.

    Drawn from the aligned eye centres (61, 58) and (139, 58) of 200 x 200 and average proportions; it fits an average
    face, and a turned or very young one only roughly.

    Returns
    -------
    int array of shape (px, px)
    """
    edge = 200
    regions = np.full((edge, edge), REGIONS.index("background"))

    def fill(name: str, rows_columns: tuple[np.ndarray, np.ndarray]) -> None:
        regions[rows_columns] = REGIONS.index(name)

    shape = (edge, edge)
    fill("hair", ellipse(72, 100, 95, 92, shape=shape))
    regions[110:] = REGIONS.index("background")
    fill("jaw", ellipse(100, 100, 98, 74, shape=shape))
    rows, columns = np.mgrid[:edge, :edge]
    face = regions == REGIONS.index("jaw")
    regions[face & (rows < 14)] = REGIONS.index("hair")
    regions[face & (rows >= 14) & (rows < 42)] = REGIONS.index("forehead")
    regions[face & (rows >= 42) & (rows < 150)] = REGIONS.index("cheeks")
    regions[face & (rows >= 42) & (rows < 76)] = REGIONS.index("eyes_brows")
    regions[face & (rows >= 60) & (rows < 118) & (np.abs(columns - 100) < 8 + (rows - 60) * 0.28)] = REGIONS.index(
        "nose"
    )
    fill("mouth", ellipse(142, 100, 20, 36, shape=shape))
    for column in (61, 139):
        fill("eyes_brows", disk((55, column), 25, shape=shape))
    scale = (np.arange(px) + 0.5) * edge / px
    return regions[np.ix_(scale.astype(int), scale.astype(int))]


def region_shares(saliency: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Share of each map's mass in each region.

    Parameters
    ----------
    saliency : float array of shape (n, px, px)
        Negative values count as 0.
    regions : int array of shape (px, px)

    Returns
    -------
    float array of shape (n, len(REGIONS))
        Rows sum to 1, or are nan for a map without mass.
    """
    mass = np.maximum(saliency, 0).reshape(len(saliency), -1)
    one_hot = np.eye(len(REGIONS))[regions.ravel()]
    total = mass.sum(axis=1, keepdims=True)
    return np.divide(mass @ one_hot, total, out=np.full((len(mass), len(REGIONS)), np.nan), where=total > 0)


def group_shares(table: pd.DataFrame, groups: pd.DataFrame, min_group: int) -> pd.DataFrame:
    """Mean share of each region by output and group of faces.

    Parameters
    ----------
    table : DataFrame
        Rows of one method of the attributions table.
    groups : DataFrame
        Group names by attribute, with image_id as index; missing where the label is unknown.
    min_group : int
        Smaller groups keep their count and lose their shares.

    Returns
    -------
    DataFrame
        head, attribute, group, n, share_<region>.
    """
    named = groups.melt(ignore_index=False, var_name="attribute", value_name="group").dropna()
    joined = table.merge(named, left_on="image_id", right_index=True).dropna(subset=SHARES)
    grouped = joined.groupby(["head", "attribute", "group"], sort=False, observed=True)[SHARES]
    means = grouped.mean().where(grouped.size() >= min_group)
    return means.assign(n=grouped.size())[["n", *SHARES]].reset_index()


def correct_against_wrong(
    table: pd.DataFrame, correct: pd.DataFrame, min_group: int, resamples: int, seed: int
) -> pd.DataFrame:
    """Does attribution lie elsewhere where the prediction is wrong?

    Mann-Whitney tests, adjusted for all outputs and regions together (Benjamini and Hochberg, 1995).

    Parameters
    ----------
    table : DataFrame
        Rows of one method of the attributions table.
    correct : DataFrame
        A column for each head of the table, image_id as index: 1 correct, 0 wrong, nan unknown.
    min_group : int
        Below so many correct or wrong predictions nothing is compared.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        head, region, n_correct, n_wrong, value (mean share where correct minus where wrong), low, high, p_adjusted,
        answer (found, cannot tell, too few).
    """
    rows = []
    for head, part in table.dropna(subset=SHARES).groupby("head", sort=False):
        right = correct[head].reindex(part["image_id"]).to_numpy(float)
        part, right = part[np.isfinite(right)], right[np.isfinite(right)] == 1
        counts = {"head": head, "n_correct": int(right.sum()), "n_wrong": int((~right).sum())}
        if min(counts["n_correct"], counts["n_wrong"]) < max(min_group, 2):
            rows += [{**counts, "region": name, "answer": "too few"} for name in REGIONS]
            continue
        for name, column in zip(REGIONS, SHARES, strict=True):
            share = part[column].to_numpy()
            found = bootstrap(_mean_difference, share, right, resamples=resamples, seed=seed)
            p_value = stats.mannwhitneyu(share[right], share[~right]).pvalue
            rows.append({**counts, "region": name, "value": found.value, "low": found.low, "high": found.high,
                         "p_adjusted": p_value, "answer": "cannot tell"})  # fmt: skip
    columns = ["head", "region", "n_correct", "n_wrong", "value", "low", "high", "p_adjusted", "answer"]
    result = pd.DataFrame(rows).reindex(columns=columns)
    tested = result["p_adjusted"].notna()
    if tested.any():
        adjusted = stats.false_discovery_control(result.loc[tested, "p_adjusted"])
        result.loc[tested, "p_adjusted"] = adjusted
        result.loc[tested & (result["p_adjusted"] < 1 - CONFIDENCE), "answer"] = "found"
    return result


def _mean_difference(values: np.ndarray, first: np.ndarray) -> float:
    """Mean of the values marked first minus mean of the others; nan where a resample lacks one of them."""
    if first.all() or not first.any():
        return float("nan")
    return float(values[first].mean() - values[~first].mean())
