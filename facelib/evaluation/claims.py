"""The bias claims of an earlier analysis of UTKFace, tested on this run: supported, not supported, inconclusive.

The analysis is "Demographic Prediction from Facial Images", source A of docs/method.md. It is about age, gender and
ethnicity as UTKFace labels them.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from facelib.evaluation.standardised import common_bands, resample
from facelib.finding import Finding, listed
from facelib.schema import AGE, ETHNICITY, GENDER
from facelib.statistics import CONFIDENCE, Bootstrap, Estimate, largest_gap, mean, rate_difference

POWER = 0.80
CLAIMS = 5
ASIAN_MEN = "Asian men are called female more often than any other group of men (in source A almost twice as often)"
SPREAD = "Age error differs across gender and ethnicity groups (in source A by about a year)"
NO_SPREAD = 0.5  # years; a difference certainly below half a year is not "about a year"
FEWEST, FEWEST_CELL = 10, 20  # faces of a group that takes part
MALE, ASIAN = GENDER.parse("male"), ETHNICITY.parse("Asian")


@dataclass(frozen=True)
class Claim:
    """One tested claim: the number that decides it, with its interval widened for the number of claims (Bonferroni).

    `answer` is `supported` if the whole interval lies on the claim's side, `not supported` if it lies on the other side
    or the effect is certainly too small, else `inconclusive`. `smallest_effect` is the smallest true value that this n
    shows with 80 % power; `ruled_out` says why these faces could not have given the answer `supported`, else it is
    empty.
    """

    claim: str
    measure: str
    answer: str
    value: float
    low: float
    high: float
    smallest_effect: float
    n: int
    ruled_out: str = ""


def judge(claim: str, measure: str, estimate: Estimate, confidence: float) -> Claim:
    """Decide a claim that an estimate, whose interval has this confidence, exceeds 0.

    Examples
    --------
    >>> judge("larger", "difference", Estimate(2.0, 1.0, 3.0, 50), 0.95).answer
    'supported'
    >>> judge("larger", "difference", Estimate(0.5, -1.0, 2.0, 50), 0.95).answer
    'inconclusive'
    """
    answer, smallest = "inconclusive", float("nan")
    if np.isfinite([estimate.value, estimate.low, estimate.high]).all():
        answer = estimate.against(0, "not supported", "supported")
        z = stats.norm.ppf(0.5 + confidence / 2)
        error = (estimate.high - estimate.low) / (2 * z)
        smallest = (z + stats.norm.ppf(POWER)) * error
    return Claim(claim, measure, answer, estimate.value, estimate.low, estimate.high, smallest, estimate.n)


def assess(frame: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """A `Claim` in each row: source A's five, on an evaluation frame with age, gender and ethnicity."""
    return _assessed(frame, bootstrap, (_babies, _boys, _asian_men, _older, _spread))


def assess_at_equal_ages(frame: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """The two claims that compare groups over many ages, with every group given the same age mix; see `assess`."""
    return _assessed(frame, bootstrap, tuple(partial(claim, equal_ages=True) for claim in (_asian_men, _spread)))


def _assessed(frame: pd.DataFrame, bootstrap: Bootstrap, claims: tuple) -> pd.DataFrame:
    known = frame.dropna(subset=[AGE.name, GENDER.name, ETHNICITY.name])
    known = known.assign(wrong=known["gender"] != known["gender_pred"], band=AGE.groups(known["age"]).astype(str))
    widened = replace(bootstrap, confidence=1 - (1 - CONFIDENCE) / CLAIMS)
    return pd.DataFrame([asdict(claim(known, widened)) for claim in claims])


def _difference(text: str, measure: str, first: pd.Series, second: pd.Series, confidence: float) -> Claim:
    """Judge that the share of errors is larger in the first group than in the second."""
    difference = rate_difference(first.sum(), len(first), second.sum(), len(second), confidence)
    return judge(text, measure, difference, confidence)


def _babies(known: pd.DataFrame, bootstrap: Bootstrap) -> Claim:
    wrong, young = known["wrong"], known["age"] < 5
    measure = f"gender error rate, ages 0-4 minus 5 and over; {wrong[young].sum()} of {wrong.sum()} errors are at 0-4"
    text = "Babies and toddlers drive the gender errors"
    return _difference(text, measure, wrong[young], wrong[~young], bootstrap.confidence)


def _boys(known: pd.DataFrame, bootstrap: Bootstrap) -> Claim:
    # Against girls of the same ages: against all others it would only repeat that children are hard.
    minors = known[known["age"] <= 17]
    boys = minors["gender"] == MALE
    text = "Boys up to 17 are called female more often than girls are called male"
    measure, wrong = "gender error rate up to 17 years, boys minus girls", minors["wrong"]
    return _difference(text, measure, wrong[boys], wrong[~boys], bootstrap.confidence)


def _adult_men(known: pd.DataFrame) -> pd.DataFrame:
    """Men from 18 years on of the ethnicity labels that enough of them have."""
    men = known[(known["gender"] == MALE) & (known["age"] >= 18)]
    return men[men.groupby("ethnicity")["age"].transform("size") >= FEWEST]


def _asian_men(known: pd.DataFrame, bootstrap: Bootstrap, equal_ages: bool = False) -> Claim:
    men, asian = _adult_men(known), str(ASIAN)
    wrong, group = men["wrong"].to_numpy()[None], men["ethnicity"].astype(int)
    bands = men["band"] if equal_ages else pd.Series("all", men.index)
    sample, estimate = resample(wrong, group, bands, men["group_id"], bootstrap), Estimate.unknown(len(men))
    if asian in sample.groups and len(sample.groups) > 1 and sample.common.any():
        # Half an error more in each group keeps a group without errors from making the ratio infinite. The next group
        # is searched anew in each sample, since chance decides too which it is.
        n = sample.counts[..., sample.common].sum(axis=-1)
        rates = (sample.standardised()[0] * n + 0.5) / (n + 1)
        at = sample.groups.index(asian)
        log_ratios = np.log(rates[:, at] / np.delete(rates, at, axis=1).max(axis=1))
        estimate = bootstrap.of_draws(log_ratios, int(n[0].sum()))
    measure = "gender error rate of adult men, Asian divided by the highest rate of the other groups of 10 and more"
    if equal_ages:
        measure = f"the same at equal ages, over ages of {100 * sample.covered:.0f} % of the faces"
    # Judged by the logarithm of the ratio, and given as ratios.
    claim = judge(ASIAN_MEN, measure, estimate, bootstrap.confidence)
    numbers = {name: float(np.exp(getattr(claim, name))) for name in ("value", "low", "high", "smallest_effect")}
    return replace(claim, **numbers)


def _older(known: pd.DataFrame, bootstrap: Bootstrap) -> Claim:
    groups = [group for _, group in known[known["age"] > 60].groupby(["gender", "ethnicity"])]
    large = [group for group in groups if len(group) >= FEWEST]
    text = "People over 60 are under-predicted for every gender and ethnicity"
    measure = f"smallest mean under-prediction in the {len(large)} of {len(groups)} groups of 10 and more, years"
    small = f"{len(groups) - len(large)} of {len(groups)} groups have fewer than {FEWEST} faces"
    ruled_out = small if len(large) < len(groups) or not groups else ""
    if not large:
        claim = judge(text, measure, Estimate.unknown(sum(map(len, groups))), bootstrap.confidence)
        return replace(claim, ruled_out=ruled_out)
    # Every group has to show it (an intersection-union test), so no lower end needs a correction; one group that shows
    # the opposite refutes it, which for the upper ends takes one for their number.
    errors = [(part["age"] - part["age_pred"], part["group_id"]) for part in large]
    lower = [mean(*part, confidence=bootstrap.confidence) for part in errors]
    upper = [mean(*part, confidence=1 - (1 - bootstrap.confidence) / len(large)) for part in errors]
    ends = min(e.value for e in lower), min(e.low for e in lower), min(e.high for e in upper)
    claim = judge(text, measure, Estimate(*ends, sum(map(len, large))), bootstrap.confidence)
    answer = "inconclusive" if ruled_out and claim.answer == "supported" else claim.answer
    return replace(claim, answer=answer, ruled_out=ruled_out)


def _spread(known: pd.DataFrame, bootstrap: Bootstrap, equal_ages: bool = False) -> Claim:
    large = known[known.groupby(["gender", "ethnicity"])["age"].transform("size") >= FEWEST_CELL]
    cell = large["gender"] * len(ETHNICITY.classes) + large["ethnicity"]
    used = large["band"].isin(common_bands(cell, large["band"])) if equal_ages else np.ones(len(large), bool)
    measure = f"largest difference of MAE between {len(set(cell))} groups of 20 and more, years"
    if equal_ages:
        measure = f"the same at equal ages, over ages of {100 * np.sum(used) / max(1, len(large)):.0f} % of the faces"
    error = (large["age_pred"] - large["age"]).abs()
    # Copies are one draw, as in the other claims.
    keys = {"cell": cell, "band": large["band"] if equal_ages else "", "copies": large["group_id"]}
    rows = large.assign(error=error, **keys)[used].groupby([*keys], as_index=False)["error"].mean()
    if rows["cell"].nunique() < 2:
        claim = judge(SPREAD, measure, Estimate.unknown(len(rows)), bootstrap.confidence)
        return replace(claim, ruled_out=f"fewer than two groups have {FEWEST_CELL} faces")
    gap = largest_gap(rows["error"], rows["cell"], bootstrap.seed, bootstrap.confidence, rows["band"])
    claim = replace(judge(SPREAD, measure, gap.estimate, bootstrap.confidence), smallest_effect=gap.smallest)
    small = claim.answer == "inconclusive" and claim.high < NO_SPREAD
    return replace(claim, answer="not supported") if small else claim


def beside(claims: pd.DataFrame, same_ages: pd.DataFrame) -> pd.DataFrame:
    """The claims that were tested in both ways: their answers and numbers, as measured and at equal ages."""
    ways = ", as measured", ", equal ages"
    columns = [f"{name}{way}" for way in ways for name in ("answer", "value", "low", "high")]
    return claims.merge(same_ages, on="claim", suffixes=ways)[["claim", *columns]]


def claims_finding(claims: pd.DataFrame, same_ages: pd.DataFrame) -> Finding:
    """The answers of `assess`, and those that differ in `assess_at_equal_ages`."""
    answers = listed(
        f"{count} {'is' if count == 1 else 'are'} {answer}"
        for answer, count in claims["answer"].value_counts(sort=False).items()
    )
    text = f"Of source A's {len(claims)} claims, {answers}."
    for row in claims[claims["ruled_out"] != ""].to_dict("records"):
        text += f" These faces cannot test “{_short(row['claim'])}”: {row['ruled_out']}."
    for row in beside(claims, same_ages).to_dict("records"):
        before, after = row["answer, as measured"], row["answer, equal ages"]
        if before != after:
            text += f" At equal ages “{_short(row['claim'])}” changes from {before} to {after}."
    return Finding("claims.answers", text, n=int(claims["n"].max()))


def _short(claim: str) -> str:
    return claim.partition(" (")[0]
