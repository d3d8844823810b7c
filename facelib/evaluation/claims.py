"""The bias claims of an earlier analysis of UTKFace, each tested on this run: found, not found, or cannot tell.

The analysis is "Demographic Prediction from Facial Images", source A of the README.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from facelib import metrics, statistics
from facelib.evaluation.gaps import spread_beyond_chance
from facelib.evaluation.standardised import common_bands, interval, resample
from facelib.schema import ETHNICITIES, age_band
from facelib.statistics import CONFIDENCE, Estimate

POWER = 0.80
CLAIMS = 5
ASIAN_MEN = "Asian men are called female more often than any other group of men (in source A almost twice as often)"
SPREAD = "Age error differs across gender and ethnicity groups (in source A by about a year)"
NO_SPREAD = 0.5  # years; a range certainly below half a year is not "about a year"


@dataclass(frozen=True)
class Claim:
    """One tested claim.

    Attributes
    ----------
    claim, measure : str
        What is claimed, and the number that decides it.
    answer : str
        `found` if the whole interval lies on the claim's side, `not found` if none of the estimate does or the whole
        interval lies on the other side, else `cannot tell`.
    value, low, high : float
        The estimate and its interval, widened for the number of claims (Bonferroni).
    smallest_effect : float
        The smallest true value that this n shows with 80 % power.
    n : int
    """

    claim: str
    measure: str
    answer: str
    value: float
    low: float
    high: float
    smallest_effect: float
    n: int


def judge(claim: str, measure: str, estimate: Estimate, confidence: float, threshold: float = 0.0) -> Claim:
    """Decide a claim that an estimate exceeds `threshold`.

    Examples
    --------
    >>> judge("larger", "difference", Estimate(2.0, 1.0, 3.0, 50), 0.95).answer
    'found'
    >>> judge("larger", "difference", Estimate(0.5, -1.0, 2.0, 50), 0.95).answer
    'cannot tell'
    """
    if not np.isfinite([estimate.value, estimate.low, estimate.high]).all():
        answer, smallest = "cannot tell", float("nan")
    else:
        answer = "found" if estimate.low > threshold else "not found" if estimate.high < threshold else "cannot tell"
        z = stats.norm.ppf(0.5 + confidence / 2)
        error = (estimate.high - estimate.low) / (2 * z)
        smallest = threshold + (z + stats.norm.ppf(POWER)) * error
    return Claim(claim, measure, answer, estimate.value, estimate.low, estimate.high, smallest, estimate.n)


def _wrong_gender(frame: pd.DataFrame) -> tuple[int, int]:
    return int((frame["gender"] != frame["gender_pred"]).sum()), len(frame)


def test_claims(frame: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Source A's five claims about who is predicted worse.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation.evaluation_frame`.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row per claim, the fields of `Claim`.
    """
    known = frame.dropna(subset=["age", "gender", "ethnicity"])
    confidence = 1 - (1 - CONFIDENCE) / CLAIMS
    claims = [
        _babies(known, confidence),
        _boys(known, confidence),
        _asian_men(known, confidence, resamples, seed),
        _older(known, confidence, resamples, seed),
        _spread(known, confidence, seed),
    ]
    return pd.DataFrame([asdict(claim) for claim in claims])


test_claims.__test__ = False  # not a test, whatever pytest makes of the name


def standardised_claims(frame: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """The two claims that compare groups over many ages, with every group given the same age mix.

    Parameters and intervals are those of `test_claims`; see `standardised` for the ages that are compared.

    Returns
    -------
    DataFrame
        The fields of `Claim`, with the texts of `test_claims` as `claim`.
    """
    known = frame.dropna(subset=["age", "gender", "ethnicity"])
    confidence = 1 - (1 - CONFIDENCE) / CLAIMS
    claims = [
        _asian_men_standardised(known, confidence, resamples, seed),
        _spread_standardised(known, confidence, seed),
    ]
    return pd.DataFrame([asdict(claim) for claim in claims])


def _babies(known: pd.DataFrame, confidence: float) -> Claim:
    young = known["age"] < 5
    estimate = statistics.rate_difference(*_wrong_gender(known[young]), *_wrong_gender(known[~young]), confidence)
    text = "Babies and toddlers drive the gender errors"
    missed, theirs = _wrong_gender(known)[0], _wrong_gender(known[young])[0]
    measure = f"gender error rate, ages 0-4 minus 5 and over; {theirs} of {missed} errors are theirs"
    return judge(text, measure, estimate, confidence)


def _boys(known: pd.DataFrame, confidence: float) -> Claim:
    # Against girls of the same ages: against everybody it would only say again that children are hard.
    minors = known[known["age"] <= 17]
    boys, girls = minors[minors["gender"] == 0], minors[minors["gender"] == 1]
    estimate = statistics.rate_difference(*_wrong_gender(boys), *_wrong_gender(girls), confidence)
    text = "Boys up to 17 are called female more often than girls are called male"
    return judge(text, "gender error rate up to 17 years, boys minus girls", estimate, confidence)


def _adult_men(known: pd.DataFrame) -> pd.DataFrame:
    """Men from 18 years on whose ethnicity label at least 10 of them have."""
    men = known[(known["gender"] == 0) & (known["age"] >= 18)]
    counts = men["ethnicity"].value_counts()
    return men[men["ethnicity"].isin(counts[counts >= 10].index)]


def _judge_log(text: str, measure: str, estimate: Estimate, confidence: float) -> Claim:
    """Judge a logarithm, and say its numbers as ratios."""
    claim = judge(text, measure, estimate, confidence)
    numbers = {name: float(np.exp(getattr(claim, name))) for name in ("value", "low", "high", "smallest_effect")}
    return replace(claim, **numbers)


def _asian_men(known: pd.DataFrame, confidence: float, resamples: int, seed: int) -> Claim:
    measure = "gender error rate of adult men, Asian divided by the next group of 10 and more"
    men, asian = _adult_men(known), ETHNICITIES.index("Asian")
    codes = set(men["ethnicity"].astype(int))
    if asian not in codes or len(codes) < 2:
        return judge(ASIAN_MEN, measure, Estimate(np.nan, np.nan, np.nan, len(men)), confidence)

    def log_ratio(wrong: np.ndarray, ethnicity: np.ndarray) -> float:
        # Half an error more in each group keeps a group without errors from making the ratio infinite. The next group
        # is found anew in each sample, since which one it is depends on chance too.
        rates = {code: (wrong[ethnicity == code].sum() + 0.5) / ((ethnicity == code).sum() + 1) for code in codes}
        return float(np.log(rates.pop(asian) / max(rates.values())))

    wrong = (men["gender"] != men["gender_pred"]).to_numpy()
    columns = (wrong, men["ethnicity"].to_numpy())
    options = {"groups": men["group_id"], "resamples": resamples, "seed": seed, "confidence": confidence}
    return _judge_log(ASIAN_MEN, measure, statistics.bootstrap(log_ratio, *columns, **options), confidence)


def _asian_men_standardised(known: pd.DataFrame, confidence: float, resamples: int, seed: int) -> Claim:
    men = _adult_men(known)
    name, band = men["ethnicity"].map(dict(enumerate(ETHNICITIES))), pd.Series(age_band(men["age"]), men.index)
    wrong = (men["gender"] != men["gender_pred"]).to_numpy(float)
    drawn = resample(wrong[None], name, band, men["group_id"].to_numpy(), resamples, seed)
    measure = f"the same with one age mix, over ages of {drawn.covered:.0%} of the faces"
    if "Asian" not in drawn.groups or len(drawn.groups) < 2 or not drawn.common.any():
        return judge(ASIAN_MEN, measure, Estimate(np.nan, np.nan, np.nan, len(men)), confidence)
    n = drawn.counts[..., drawn.common].sum(axis=-1)
    rates = (drawn.standardised()[0] * n + 0.5) / (n + 1)  # half an error more, as without standardisation
    asian = drawn.groups.index("Asian")
    log_ratios = np.log(rates[:, asian] / np.delete(rates, asian, axis=1).max(axis=1))
    return _judge_log(ASIAN_MEN, measure, interval(log_ratios, int(n[0].sum()), confidence), confidence)


def _older(known: pd.DataFrame, confidence: float, resamples: int, seed: int) -> Claim:
    old = known[known["age"] > 60]
    groups = [group for _, group in old.groupby(["gender", "ethnicity"])]
    large = [group for group in groups if len(group) >= 10]
    text = "People over 60 are under-predicted for every gender and ethnicity"
    measure = f"least mean under-prediction in {len(large)} groups of 10 and more, of {len(groups)}, years"
    if not large:
        return judge(text, measure, Estimate(np.nan, np.nan, np.nan, len(old)), confidence)
    estimates = [
        statistics.bootstrap(
            lambda y_true, y_pred: -metrics.bias(y_true, y_pred),
            group["age"],
            group["age_pred"],
            groups=group["group_id"],
            resamples=resamples,
            seed=seed,
            confidence=confidence,
        )
        for group in large
    ]
    # Every group has to show it, and one that shows the opposite refutes it (an intersection-union test).
    refuting = [estimate for estimate in estimates if estimate.high < 0]
    least = min(refuting or estimates, key=lambda estimate: estimate.low)
    claim = judge(text, measure, replace(least, n=sum(map(len, large))), confidence)
    too_small = claim.answer == "found" and len(large) < len(groups)
    return replace(claim, answer="cannot tell") if too_small else claim


def _large_cells(known: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Rows of crossings of gender and ethnicity with 20 and more, the code of each crossing, and the age errors."""
    counts = known.groupby(["gender", "ethnicity"])["age"].transform("size")
    large = known[counts >= 20]
    cell = (large["gender"] * len(ETHNICITIES) + large["ethnicity"]).to_numpy()
    return large, cell, (large["age_pred"] - large["age"]).abs().to_numpy()


def _judge_spread(measure: str, estimate: Estimate, confidence: float) -> Claim:
    claim = judge(SPREAD, measure, estimate, confidence)
    small = claim.answer == "cannot tell" and claim.high < NO_SPREAD
    return replace(claim, answer="not found") if small else claim


def _spread(known: pd.DataFrame, confidence: float, seed: int) -> Claim:
    large, cell, error = _large_cells(known)
    measure = f"largest minus smallest MAE of {len(np.unique(cell))} groups of 20 and more, beyond chance, years"
    if len(np.unique(cell)) < 2:
        return judge(SPREAD, measure, Estimate(np.nan, np.nan, np.nan, len(large)), confidence)
    return _judge_spread(measure, spread_beyond_chance(error, cell, seed, confidence).beyond, confidence)


def _spread_standardised(known: pd.DataFrame, confidence: float, seed: int) -> Claim:
    large, cell, error = _large_cells(known)
    band = pd.Series(age_band(large["age"]), large.index)
    common = band.isin(common_bands(pd.Series(cell, large.index), band)).to_numpy()
    measure = f"the same with one age mix, over ages of {common.sum() / max(1, len(common)):.0%} of the faces"
    if len(np.unique(cell)) < 2 or not common.any():
        return judge(SPREAD, measure, Estimate(np.nan, np.nan, np.nan, len(large)), confidence)
    strata = band[common].to_numpy(str)
    spread = spread_beyond_chance(error[common], cell[common], seed, confidence, strata)
    return _judge_spread(measure, spread.beyond, confidence)
