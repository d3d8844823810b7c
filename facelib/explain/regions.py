"""Where maps point: facial regions in aligned coordinates, and shares of attribution by region and group."""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats
from skimage.draw import disk, ellipse

from facelib.explain.attribution import CORRECT_YEARS, Maps, Sample, titles
from facelib.explain.faithfulness import beats_all, curve_scores, randomised
from facelib.explain.methods import BASELINES, METHODS, REGION_METHOD, explained_faces
from facelib.finding import Finding, listed
from facelib.schema import ClassAttribute
from facelib.statistics import CONFIDENCE, SHARE, Bootstrap, Estimate, adjusted, mean

REGIONS = ("hair", "forehead", "eyes_brows", "nose", "cheeks", "mouth", "jaw", "background")
SHARES = [f"share_{name}" for name in REGIONS]
SHUFFLES, SHUFFLED_FACES = 3, 60  # networks with shuffled weights, and faces of which each draws maps
LEAST_DIFFERENCE = 0.01  # of a map; regions are hardly larger than its places, so less is not told apart


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


def shuffled_shares(sample: Sample) -> pd.DataFrame:
    """Shares by region of maps by networks with shuffled weights: image_id, head, share_<region>, a row per shuffle."""
    few, parts = sample.head(SHUFFLED_FACES), []
    for seed in range(sample.run.settings.seed, sample.run.settings.seed + SHUFFLES):
        networks = {id(output.network): randomised(output.network, seed) for output in few.outputs}
        outputs = [replace(output, network=networks[id(output.network)]) for output in few.outputs]
        drawn, _ = METHODS[REGION_METHOD].maps(outputs, few.images, sample.run.settings)
        for output, maps in zip(outputs, drawn, strict=True):
            shares = pd.DataFrame(region_shares(maps, region_map(sample.px)), few.labels.index, SHARES)
            parts.append(shares.rename_axis("image_id").reset_index().assign(head=output.name))
    return pd.concat(parts, ignore_index=True)


def against_shuffled(table: pd.DataFrame, shuffled: pd.DataFrame) -> pd.DataFrame:
    """Mean share of each region in the maps of `REGION_METHOD`, and of networks with shuffled weights.

    Paired by face. Columns: head (the output), region, value, low, high, n, unit; shuffled, difference with _low and
    _high (simultaneous over all rows at 95 %, Bonferroni), answer: less or more than shuffled, inconclusive.
    """
    own = table[table["method"] == REGION_METHOD].dropna(subset=SHARES)
    chance = shuffled.dropna(subset=SHARES).groupby(["head", "image_id"], sort=False)[SHARES].mean()
    heads, rows = own["head"].unique(), []
    for head in heads:
        part = own[own["head"] == head].set_index("image_id")[SHARES]
        other = chance.xs(head, level="head") if head in chance.index else chance[:0].droplevel("head")
        paired = part.reindex(other.index).dropna()
        for region, column in zip(REGIONS, SHARES, strict=True):
            share, level = mean(part[column], unit=SHARE), 1 - (1 - CONFIDENCE) / (len(heads) * len(REGIONS))
            apart = mean(paired[column] - other.loc[paired.index, column], unit=SHARE, confidence=level)
            row = {"head": head, "region": region, **share.to_dict(), "shuffled": other[column].mean()}
            answer = apart.against(0, "less", "more")
            rows.append(row | apart.columns("difference") | {"answer": answer})
    return pd.DataFrame(rows)


def edges_background(table: pd.DataFrame) -> Estimate:
    """Mean share of the background in the edge map."""
    return mean(edge_rows(table)["share_background"].dropna(), unit=SHARE)


def headline(shares: pd.DataFrame, gains: pd.DataFrame) -> dict[str, Estimate]:
    """The notebook's keys for results.json: background shares, and faithfulness over that of edges."""
    background = shares[shares["region"] == "background"].to_dict("records")
    rows = [(f"{row['head']}.background_share", row) for row in background]
    over_edges = gains[gains["baseline"] == "edges"].to_dict("records")
    rows += [(f"{row['head']}.{row['method']}_over_edges", row) for row in over_edges]
    return {f"explain.{key}": Estimate.from_dict(row) for key, row in rows}


def background_findings(
    shares: pd.DataFrame, edges: Estimate, gains: pd.DataFrame, sanity: pd.DataFrame, sample: Sample
) -> list[Finding]:
    """Face or background (`explain.regions`), from maps that pass both checks, and the shares (`explain.background`).

    A map passes where it beats every baseline (`gains`) and changes when the network's weights are shuffled (`sanity`);
    `shares` are those of `against_shuffled`.
    """
    title, explained = METHODS[REGION_METHOD].title, sample.outputs
    background = shares[shares["region"] == "background"]
    wins, changes = beats_all(gains), sanity.set_index(["head", "method"])["answer"] == "changes"
    passed = background["head"].map(lambda head: wins[head, REGION_METHOD] and changes[head, REGION_METHOD])

    def named(rows: pd.Series) -> str:
        return listed(titles(background.loc[rows, "head"], explained))

    def span(column: str) -> str:
        values = background[column].dropna()
        return " to ".join(dict.fromkeys(f"{100 * share:.1f} %" for share in (values.min(), values.max())))

    parts = [
        f"{title} maps put more weight on the {place} than those of networks with shuffled weights for {named(rows)}"
        for place, answer in (("face and hair", "less"), ("background", "more"))
        if (rows := passed & (background["answer"] == answer)).any()
    ]
    text = f"{'; '.join(parts) or f'{title} maps do not tell whether networks use face or background'}."
    if not passed.all():
        text += f" Maps of {named(~passed)} do not pass both checks (more faithful than every baseline, and changed by"
        text += " shuffled weights), or are too few to tell."
    area = (
        f"The background is {100 * region_area(sample.px)['background']:.1f} % of the picture. It receives "
        f"{span('value')} of {title} maps, by output, {span('shuffled')} of those of networks with shuffled weights, "
        f"and {edges} of the edge map."
    )
    return [Finding("explain.regions", text, n=len(sample.images)), Finding("explain.background", area, edges)]


def group_shares(table: pd.DataFrame, sample: Sample) -> pd.DataFrame:
    """Mean share_<region> of the maps of `REGION_METHOD`, by head (output), attribute, group; nan in small groups."""
    groups = pd.DataFrame({a.name: a.groups_of(sample.labels).astype(object) for a in sample.run.attributes})
    named = groups.melt(ignore_index=False, var_name="attribute", value_name="group").dropna()
    maps = table[table["method"] == REGION_METHOD].dropna(subset=SHARES)
    joined = maps.merge(named, left_on="image_id", right_index=True)
    grouped = joined.groupby(["head", "attribute", "group"], sort=False)[SHARES]
    means = grouped.mean().where(grouped.size() >= sample.run.settings.evaluation.min_group)
    table = means.assign(n=grouped.size())[["n", *SHARES]].reset_index()
    names = [(a.name, group) for a in sample.run.attributes for group in a.group_names]
    rank = pd.Series(range(len(names)), pd.MultiIndex.from_tuples(names))
    order = rank.loc[pd.MultiIndex.from_frame(table[["attribute", "group"]])].to_numpy()
    return table.iloc[np.argsort(order, kind="stable")].sort_values("head", kind="stable", ignore_index=True)


def correct_against_wrong(
    table: pd.DataFrame, correct: pd.DataFrame, min_group: int, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Whether the maps of `REGION_METHOD` point elsewhere where the prediction is wrong.

    Mann-Whitney tests of the attributions table, adjusted for all outputs and regions together. `correct` is from
    `Sample.correct`; with fewer than `min_group` correct or wrong predictions nothing is compared. A table of head (the
    output), region, n_correct, n_wrong, value (mean share where correct minus where wrong), low, high, p_adjusted,
    answer (found, where it is also at least `LEAST_DIFFERENCE`; inconclusive; too few).
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
            answer = "inconclusive" if enough else "too few"
            rows.append({"head": head, "region": region, **sizes, **numbers, "answer": answer})
    result = pd.DataFrame(rows)
    result["p_adjusted"] = adjusted(result["p_adjusted"])
    clear = (result["p_adjusted"] < 1 - CONFIDENCE) & (result["value"].abs() >= LEAST_DIFFERENCE)
    result.loc[clear, "answer"] = "found"
    return result


def correct_finding(differences: pd.DataFrame, sample: Sample) -> Finding:
    """The regions in which correct and wrong predictions differ."""
    tested = differences[differences["answer"] != "too few"]
    clear = tested[tested["answer"] == "found"]
    if tested.empty:
        text = "No output has enough correct and wrong predictions to compare their maps."
        return Finding("explain.correct_wrong", text, n=len(sample.images))
    texts = [
        f"{100 * row.value:+.1f} points on {row.region.replace('_', ' and ')} ({titles([row.head], sample.outputs)[0]})"
        for row in clear.itertuples()
    ]
    text = f"Weight of {METHODS[REGION_METHOD].title} maps where predictions are correct minus where they are wrong, "
    text += (
        f"for {tested['head'].nunique()} outputs with enough of both: {', '.join(texts) or 'no difference is shown'}"
    )
    text += " (adjusted for all tests"
    for exact in {o.attribute.exact for o in sample.outputs if not isinstance(o.attribute, ClassAttribute)}:
        text += f"; years count as correct within {CORRECT_YEARS if exact else 'their band'}"
    return Finding("explain.correct_wrong", f"{text}).", n=len(sample.images))


def _mean_difference(values: np.ndarray, first: np.ndarray) -> float:
    """Mean of the values marked first minus mean of the others; nan where a resample lacks one of them."""
    if first.all() or not first.any():
        return float("nan")
    return float(values[first].mean() - values[~first].mean())
