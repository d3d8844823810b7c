"""Where maps point: facial regions in aligned coordinates, and shares of attribution by region and group."""

import numpy as np
import pandas as pd
from scipy import stats
from skimage.draw import disk, ellipse

from facelib.explain.attribution import CORRECT_YEARS, Maps, Sample, titles
from facelib.explain.faithfulness import beats_all, curve_scores
from facelib.explain.methods import BASELINES, METHODS, REGION_METHOD, explained_faces
from facelib.finding import Finding, listed
from facelib.statistics import CONFIDENCE, SHARE, Bootstrap, Estimate, adjusted

REGIONS = ("hair", "forehead", "eyes_brows", "nose", "cheeks", "mouth", "jaw", "background")
SHARES = [f"share_{name}" for name in REGIONS]


def region_map(px: int) -> np.ndarray:
    """Facial region of each pixel of an aligned crop, as an index into `REGIONS`: int array (px, px).

    Drawn from the aligned eye centres (61, 58) and (139, 58) of 200 x 200 and average proportions; it fits an average
    face, and a turned or very young one only roughly.
    """
    edge = 200
    hair, forehead, eyes, nose, cheeks, mouth, jaw, background = range(len(REGIONS))
    regions = np.full((edge, edge), background)
    regions[ellipse(72, 100, 95, 92, shape=regions.shape)] = hair
    regions[110:] = background
    regions[ellipse(100, 100, 98, 74, shape=regions.shape)] = jaw
    rows, columns = np.mgrid[:edge, :edge]
    face = regions == jaw
    for region, first, end in ((hair, 0, 14), (forehead, 14, 42), (cheeks, 42, 150), (eyes, 42, 76)):
        regions[face & (rows >= first) & (rows < end)] = region
    regions[face & (rows >= 60) & (rows < 118) & (np.abs(columns - 100) < 8 + (rows - 60) * 0.28)] = nose
    regions[ellipse(142, 100, 20, 36, shape=regions.shape)] = mouth
    for column in (61, 139):
        regions[disk((55, column), 25, shape=regions.shape)] = eyes
    scale = ((np.arange(px) + 0.5) * edge / px).astype(int)
    return regions[np.ix_(scale, scale)]


def region_area(px: int) -> dict[str, float]:
    """Share of the picture that each region covers."""
    regions = region_map(px)
    return dict(zip(REGIONS, np.bincount(regions.ravel(), minlength=len(REGIONS)) / regions.size, strict=True))


def region_shares(saliency: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Share of each map's mass (n, px, px) in each region of a `region_map`: float array (n, len(REGIONS)).

    Negative values count as 0. Rows sum to 1, or are nan for a map without mass.
    """
    mass = np.maximum(saliency, 0).reshape(len(saliency), -1)
    one_hot = np.eye(len(REGIONS))[regions.ravel()]
    total = mass.sum(axis=1, keepdims=True)
    return np.divide(mass @ one_hot, total, out=np.full((len(mass), len(REGIONS)), np.nan), where=total > 0)


def attributions(sample: Sample, maps: Maps, numbers: Maps) -> pd.DataFrame:
    """A row per face, output and method: image_id, head (the output), method, share_<region>, and `curve_scores`."""
    regions, parts = region_map(sample.px), []
    for output in sample.outputs:
        for name in (*METHODS, *BASELINES):
            shares = pd.DataFrame(region_shares(maps[output.name, name], regions), columns=SHARES)
            named = {"image_id": explained_faces(sample, name).labels.index, "head": output.name, "method": name}
            scores = curve_scores(numbers[output.name, name])
            parts.append(pd.concat([pd.DataFrame(named, index=shares.index), shares, scores], axis=1))
    return pd.concat(parts, ignore_index=True)


def edge_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the edge map, which is the same for any output."""
    edges = table[table["method"] == "edges"]
    return edges[edges["head"] == edges["head"].iloc[0]].assign(head="any output")


def background_shares(table: pd.DataFrame, px: int, bootstrap: Bootstrap) -> tuple[pd.DataFrame, Estimate]:
    """Mean share of the background in the maps of `REGION_METHOD`, by output, and in the edge map.

    The table has head (the output), value, low, high, n, unit, than_area: less or more than the background's share of
    the picture (the whole interval is), cannot tell.
    """
    area, rows = region_area(px)["background"], []
    for head, part in table[table["method"] == REGION_METHOD].groupby("head", sort=False):
        share = bootstrap(np.mean, part["share_background"].dropna(), unit=SHARE)
        rows.append({"head": head, **share.to_dict(), "than_area": share.against(area, "less", "more")})
    return pd.DataFrame(rows), bootstrap(np.mean, edge_rows(table)["share_background"].dropna(), unit=SHARE)


def headline(background: pd.DataFrame, gains: pd.DataFrame) -> dict[str, Estimate]:
    """The notebook's keys for results.json: background shares, and faithfulness over that of edges."""
    rows = [(f"{row['head']}.background_share", row) for row in background.to_dict("records")]
    over_edges = gains[gains["baseline"] == "edges"].to_dict("records")
    rows += [(f"{row['head']}.{row['method']}_over_edges", row) for row in over_edges]
    return {f"explain.{key}": Estimate.from_dict(row) for key, row in rows}


def background_findings(
    background: pd.DataFrame, edges: Estimate, gains: pd.DataFrame, sanity: pd.DataFrame, sample: Sample
) -> list[Finding]:
    """Face or background (`explain.regions`), from maps that pass both checks, and the shares (`explain.background`).

    A map passes where it beats every baseline (`gains`) and changes when the network's weights are shuffled (`sanity`).
    """
    title, explained = METHODS[REGION_METHOD].title, sample.outputs
    wins, changes = beats_all(gains), sanity.set_index(["head", "method"])["answer"] == "changes"
    passed = background["head"].map(lambda head: wins[head, REGION_METHOD] and changes[head, REGION_METHOD])

    def named(rows: pd.Series) -> str:
        return listed(titles(background.loc[rows, "head"], explained))

    parts = [
        f"{title} maps point more to the {place} than its area explains for {named(rows)}"
        for place, answer in (("face", "less"), ("background", "more"))
        if (rows := passed & (background["than_area"] == answer)).any()
    ]
    text = f"{'; '.join(parts) or f'{title} maps do not tell whether the networks use the face or the background'}."
    if not passed.all():
        text += f" Maps of {named(~passed)} fail a check: they do not beat every baseline, or may not depend on the"
        text += " network's weights."
    shares = background["value"].dropna()
    span = " to ".join(dict.fromkeys(f"{100 * share:.1f} %" for share in (shares.min(), shares.max())))
    area = f"The background is {100 * region_area(sample.px)['background']:.1f} % of the picture."
    area += f" It holds {span} of {title} maps, by output, and {edges} of the edge map."
    return [Finding("explain.regions", text, n=len(sample.images)), Finding("explain.background", area, edges)]


def group_shares(table: pd.DataFrame, sample: Sample) -> pd.DataFrame:
    """Mean share_<region> of the maps of `REGION_METHOD`, by head (output), attribute, group; nan in small groups."""
    groups = pd.DataFrame({a.name: a.groups(sample.labels[a.name]).astype(object) for a in sample.run.attributes})
    named = groups.melt(ignore_index=False, var_name="attribute", value_name="group").dropna()
    maps = table[table["method"] == REGION_METHOD].dropna(subset=SHARES)
    joined = maps.merge(named, left_on="image_id", right_index=True)
    grouped = joined.groupby(["head", "attribute", "group"], sort=False)[SHARES]
    means = grouped.mean().where(grouped.size() >= sample.run.settings.evaluation.min_group)
    return means.assign(n=grouped.size())[["n", *SHARES]].reset_index()


def correct_against_wrong(
    table: pd.DataFrame, correct: pd.DataFrame, min_group: int, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Whether the maps of `REGION_METHOD` point elsewhere where the prediction is wrong.

    Mann-Whitney tests of the attributions table, adjusted for all outputs and regions together. `correct` is from
    `Sample.correct`; with fewer than `min_group` correct or wrong predictions nothing is compared. A table of head (the
    output), region, n_correct, n_wrong, value (mean share where correct minus where wrong), low, high, p_adjusted,
    answer (found, cannot tell, too few).
    """
    rows = []
    for head, part in table[table["method"] == REGION_METHOD].dropna(subset=SHARES).groupby("head", sort=False):
        right = correct[head].reindex(part["image_id"]).to_numpy(float)
        part, right = part[np.isfinite(right)], right[np.isfinite(right)] == 1
        sizes = {"n_correct": int(right.sum()), "n_wrong": int((~right).sum())}
        enough = min(sizes.values()) >= max(min_group, 2)
        for region, column in zip(REGIONS, SHARES, strict=True):
            share, estimate, p_value = part[column].to_numpy(), Estimate.unknown(len(part)), np.nan
            if enough:
                estimate = bootstrap(_mean_difference, share, right)
                p_value = stats.mannwhitneyu(share[right], share[~right]).pvalue
            numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "p_adjusted": p_value}
            answer = "cannot tell" if enough else "too few"
            rows.append({"head": head, "region": region, **sizes, **numbers, "answer": answer})
    result = pd.DataFrame(rows)
    result["p_adjusted"] = adjusted(result["p_adjusted"])
    result.loc[result["p_adjusted"] < 1 - CONFIDENCE, "answer"] = "found"
    return result


def correct_finding(differences: pd.DataFrame, sample: Sample) -> Finding:
    """The regions in which correct and wrong predictions differ."""
    tested = differences[differences["answer"] != "too few"]
    clear = tested[tested["answer"] == "found"]
    texts = [
        f"{titles([row.head], sample.outputs)[0]}, {row.region.replace('_', ' and ')} {100 * row.value:+.1f} points"
        for row in clear.itertuples()
    ]
    text = f"{METHODS[REGION_METHOD].title} maps of correct against wrong predictions, for {tested['head'].nunique()} "
    text += f"outputs with enough of both: {'; '.join(texts) or 'no difference found'} (adjusted for all tests; years"
    return Finding("explain.correct_wrong", f"{text} count as correct within {CORRECT_YEARS}).", n=len(sample.images))


def _mean_difference(values: np.ndarray, first: np.ndarray) -> float:
    """Mean of the values marked first minus mean of the others; nan where a resample lacks one of them."""
    if first.all() or not first.any():
        return float("nan")
    return float(values[first].mean() - values[~first].mean())
