"""Label disagreement: how far two labels of one photograph differ, beside how far the model differs from a label.

Photographs that occur twice carry two labels. Where no copy was trained on, the model predicts them as any new face,
and the difference between their labels is what a model that errs as labels do would show.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from facelib.audit.contradictions import disagreements, independent_error_rate
from facelib.finding import Finding, Findings
from facelib.runs import RunFolder
from facelib.schema import AGE, Attribute, ClassAttribute
from facelib.statistics import SHARE, YEARS, Bootstrap, Estimate

DISAGREEMENT_COLUMNS = ["attribute", "quantity", "value", "low", "high", "n", "unit"]
LABELS, MODEL, APART = "two labels", "model and label", "model and label minus two labels"
CORRECTED = "model and truth, if labels err independently"
NOISE_DRAWS = 400
NEIGHBOURS = 50  # groups of copies nearest in age whose labels say how noisy a label of that age is
BIAS_COLUMNS = ["age_band", "n", *(f"{way}{end}" for way in ("bias", "noise") for end in ("", "_low", "_high"))]


def copies_held_out(
    faces: pd.DataFrame, group_id: np.ndarray, held_out: np.ndarray, predictions: pd.DataFrame, attribute: Attribute
) -> pd.DataFrame:
    """How two labels of each photograph differ, and the model and a label, of groups of copies outside training.

    `held_out`, bool (n,), marks rows that the model was not trained on; groups with another row are left out. Rows of
    the predictions are those of the faces. Columns: group_id, labels (their number), label (their mean), two_labels,
    model: mean differences in years, or shares that differ. One row per group with two known labels or more.
    """
    whole = ~np.isin(group_id, group_id[~held_out])
    rows = np.flatnonzero(whole & attribute.is_known(faces[attribute.name]))
    given, group = faces[attribute.name].to_numpy(float)[rows], group_id[rows]
    decoded = attribute.decode(predictions).to_numpy(float)[rows]
    error = np.abs(decoded - given)
    if isinstance(attribute, ClassAttribute):
        error = np.where(np.isnan(decoded), np.nan, decoded != given)
    by_group = pd.DataFrame({"label": given, "model": error}).groupby(group).mean()
    pairs = disagreements(faces.iloc[rows].reset_index(drop=True), group, [attribute]).set_index("group_id")
    table = pairs[["labels", "difference"]].rename(columns={"difference": "two_labels"}).join(by_group)
    return table.dropna().rename_axis("group_id").reset_index()[["group_id", "labels", "label", "two_labels", "model"]]


def corrected_error(attribute: Attribute, two_labels: float, model: float) -> float:
    """Difference of model and truth, from mean differences of two labels and of model and label.

    Labels are taken to err independently of each other and of the model. Errors of ages are normal, so squares of mean
    errors add up; those of a class fall on each wrong class alike. nan where labels differ too much for that.

    Examples
    --------
    >>> round(corrected_error(AGE, 2**0.5 * 3.0, 5.0), 3)  # 3 years a label: 5 squared is 4 squared and 3 squared
    4.0
    """
    if not isinstance(attribute, ClassAttribute):
        return float(np.sqrt(np.maximum(model**2 - two_labels**2 / 2, 0)))
    classes = len(attribute.classes)
    wrong = independent_error_rate(two_labels, classes)
    left = 1 - wrong * classes / (classes - 1)
    return float(max(0.0, (model - wrong) / left)) if left > 0 else float("nan")


def label_disagreement(
    faces: pd.DataFrame, group_id: np.ndarray, held_out: np.ndarray, predictions: pd.DataFrame,
    attributes: Iterable[Attribute], bootstrap: Bootstrap, minimum: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """The four quantities above for each attribute, resampling groups of copies; see `copies_held_out`.

    Columns: attribute, quantity, value, low, high, n (groups), unit. An attribute is left out if fewer than `minimum`
    photographs outside training have two labels.
    """
    rows = []
    for attribute in attributes:
        table = copies_held_out(faces, group_id, held_out, predictions, attribute)
        if len(table) < minimum:
            continue
        unit = SHARE if isinstance(attribute, ClassAttribute) else attribute.unit
        both = table["two_labels"].to_numpy(), table["model"].to_numpy()

        def corrected(two_labels, model, attribute=attribute) -> float:
            return corrected_error(attribute, two_labels.mean(), model.mean())

        quantities = {
            LABELS: lambda two_labels, model: two_labels.mean(),
            MODEL: lambda two_labels, model: model.mean(),
            APART: lambda two_labels, model: (model - two_labels).mean(),
            CORRECTED: corrected,
        }
        for quantity, statistic in quantities.items():
            estimate = bootstrap(statistic, *both, unit=unit)
            rows.append({"attribute": attribute.name, "quantity": quantity, **estimate.to_dict()})
    return pd.DataFrame(rows, columns=DISAGREEMENT_COLUMNS)


def run_disagreement(run: RunFolder, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`label_disagreement` of a run's predictor outside its training split, and `noise_alone` on its test frame.

    The second is empty where no age in years is learned.
    """
    faces, splits = run.load_table("faces"), run.load_table("splits")
    predictions = run.load_table("predictions").query("model == 'predictor'")
    predictions = predictions.set_index("image_id").loc[faces["image_id"]].reset_index()
    group_id, held_out = splits["group_id"].to_numpy(), (splits["split"] != "train").to_numpy()
    exact = [attribute for attribute in run.learned if getattr(attribute, "exact", True)]
    measured = label_disagreement(
        faces, group_id, held_out, predictions, exact, run.bootstrap, run.settings.evaluation.min_group
    )
    if AGE not in exact:
        return measured, noise_alone(frame[:0], pd.DataFrame(), run.bootstrap)
    # How noisy labels are is seen on all copies: no prediction enters.
    everywhere = np.ones(len(faces), bool)
    differences = copies_held_out(faces, group_id, everywhere, predictions, AGE)
    return measured, noise_alone(frame, differences, run.bootstrap)


def noise_alone(
    frame: pd.DataFrame, differences: pd.DataFrame, bootstrap: Bootstrap, draws: int = NOISE_DRAWS
) -> pd.DataFrame:
    """Mean of predicted minus labelled age by labelled band, and what label noise alone would make of it.

    An error-free predictor is simulated: it predicts the age, and labels are that age and noise. The ages are the
    labels of `frame`; the noise of each is drawn from the differences of two labels, over the square root of 2 and with
    either sign, of the `NEIGHBOURS` photographs nearest in age. Grouped by label, old people are predicted too young by
    it, since more of the oldest labels are too high. Real ages spread less than labels, so this is slightly too much
    for middle ages and slightly too little at the ends.

    Parameters
    ----------
    frame : DataFrame
        An evaluation frame with age.
    differences : DataFrame
        From `copies_held_out`, of any copies: label and two_labels are used.
    bootstrap : Bootstrap
    draws : int
        Simulated label sets, each from a resample of `differences`.

    Returns
    -------
    DataFrame
        age_band, n, bias, noise (years; each with _low and _high). Empty without differences.
    """
    if differences.empty or frame.empty:
        return pd.DataFrame(columns=BIAS_COLUMNS)
    aged = frame.dropna(subset=[AGE.name, AGE.prediction])
    ages, rng = aged[AGE.name].to_numpy(float), np.random.default_rng(bootstrap.seed)
    ordered = differences.sort_values("label")
    simulated = []
    for _ in range(draws):
        sample = ordered.iloc[np.sort(rng.integers(0, len(ordered), len(ordered)))]
        k = min(NEIGHBOURS, len(sample))
        place = np.searchsorted(sample["label"].to_numpy(), ages) - k // 2
        near = place.clip(0, len(sample) - k) + rng.integers(0, k, len(ages))
        noise = sample["two_labels"].to_numpy()[near] / np.sqrt(2) * rng.choice([-1, 1], len(ages))
        labels = pd.Series(np.maximum(ages + noise, 0).round())
        bands = AGE.groups(labels).to_numpy()
        simulated.append(pd.Series(ages - labels).groupby(bands).mean())
    simulated, tail = pd.DataFrame(simulated), (1 - bootstrap.confidence) / 2
    rows = []
    for band, part in aged.groupby(AGE.group_column, observed=True):
        error = part[AGE.prediction] - part[AGE.name]
        found = bootstrap(np.mean, error, groups=part["group_id"])
        drawn = simulated[band].dropna() if band in simulated else pd.Series(dtype=float)
        low, high = drawn.quantile([tail, 1 - tail]) if len(drawn) else (np.nan, np.nan)
        noise = Estimate(float(drawn.mean()), low, high, len(part))
        rows.append({"age_band": str(band), "n": len(part), **found.columns("bias"), **noise.columns("noise")})
    return pd.DataFrame(rows, columns=BIAS_COLUMNS)


def disagreement_findings(measured: pd.DataFrame, noise: pd.DataFrame) -> Findings:
    """How the model compares with a second label, by attribute; and what noise makes of the oldest band's bias."""
    findings = Findings()
    if measured.empty:
        text = "Too few photographs outside training have two labels: how far labels disagree is not measured."
        return Findings([Finding("disagreement.none", text, n=0)])
    for name, part in measured.groupby("attribute", sort=False):
        rows = {row["quantity"]: Estimate.from_dict(row) for row in part.to_dict("records")}
        by = "by" if rows[LABELS].unit == YEARS else "in"
        verdict = {
            "better": "the model differs less",
            "worse": "the model differs more",
            "inconclusive": "the interval of the difference includes 0",
        }[rows[APART].against(0, "better", "worse")]
        text = (
            f"On {rows[LABELS].n:,} photographs with two {name} labels and no copy in training, two labels differ "
            f"{by} {rows[LABELS]} and the model and a label {by} {rows[MODEL]}: {verdict}."
        )
        if np.isfinite(rows[CORRECTED].value):
            text += f" If labels err independently, the model differs from the truth {by} about {rows[CORRECTED].text}."
        findings.append(Finding(f"disagreement.{name}", text, rows[APART]))
    last = noise.iloc[-1] if len(noise) else None
    if last is not None and last["bias_high"] < 0 and last["noise"] < 0:
        text = (
            f"Faces labelled {last['age_band']} are predicted {-last['bias']:.1f} y too young. If labels of copies are "
            f"typical and err independently, label noise alone would make predictions without error appear "
            f"{-last['noise']:.1f} y ({-last['noise_high']:.1f} to {-last['noise_low']:.1f}) too young."
        )
        findings.append(Finding("disagreement.old", text, n=int(last["n"])))
    return findings
