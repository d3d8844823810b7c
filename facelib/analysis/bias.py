"""The bias claims of source A, each tested on this run: found, not found, or cannot tell."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from facelib import metrics
from facelib.metrics import CONFIDENCE, Estimate
from facelib.schema import ETHNICITIES

POWER = 0.80


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
    confidence = 1 - (1 - CONFIDENCE) / 5
    claims = [
        _babies(known, confidence),
        _boys(known, confidence),
        _asian_men(known, confidence),
        _older(known, confidence, resamples, seed),
        _spread(known, confidence, resamples, seed),
    ]
    return pd.DataFrame([asdict(claim) for claim in claims])


test_claims.__test__ = False  # not a test, whatever pytest makes of the name


def _babies(known: pd.DataFrame, confidence: float) -> Claim:
    young = known["age"] < 5
    estimate = metrics.rate_difference(*_wrong_gender(known[young]), *_wrong_gender(known[~young]), confidence)
    text = "Babies and toddlers drive the gender errors"
    return judge(text, "gender error rate, ages 0-4 minus 5 and over", estimate, confidence)


def _boys(known: pd.DataFrame, confidence: float) -> Claim:
    boys = (known["age"] <= 17) & (known["gender"] == 0)
    estimate = metrics.rate_difference(*_wrong_gender(known[boys]), *_wrong_gender(known[~boys]), confidence)
    text = "Boys up to 17 are called female more often than others are misgendered"
    return judge(text, "gender error rate, boys up to 17 minus all others", estimate, confidence)


def _asian_men(known: pd.DataFrame, confidence: float) -> Claim:
    men = known[(known["gender"] == 0) & (known["age"] >= 18)]
    rates = {code: _wrong_gender(men[men["ethnicity"] == code]) for code in range(len(ETHNICITIES))}
    asian = ETHNICITIES.index("Asian")
    others = {code: wrong / n for code, (wrong, n) in rates.items() if code != asian and n >= 10}
    text = "Asian men are called female almost twice as often as the next group of men"
    if not others or not rates[asian][1]:
        nothing = Estimate(np.nan, np.nan, np.nan, rates[asian][1])
        return judge(text, "gender error rate of men, Asian minus the next group", nothing, confidence)
    following = max(others, key=others.get)
    estimate = metrics.rate_difference(*rates[asian], *rates[following], confidence)
    return judge(text, f"gender error rate of men, Asian minus {ETHNICITIES[following]}", estimate, confidence)


def _older(known: pd.DataFrame, confidence: float, resamples: int, seed: int) -> Claim:
    old = known[known["age"] > 60]
    cells = [cell for _, cell in old.groupby(["gender", "ethnicity"]) if len(cell) >= 10]
    text = "People over 60 are under-predicted for every gender and ethnicity"
    measure = f"smallest mean under-prediction among {len(cells)} groups of 10 and more, years"
    if not cells:
        return judge(text, measure, Estimate(np.nan, np.nan, np.nan, len(old)), confidence)
    # All groups have to show it, so the least of them decides (an intersection-union test).
    estimates = [
        metrics.bootstrap(
            lambda y_true, y_pred: -metrics.bias(y_true, y_pred),
            cell["age"],
            cell["age_pred"],
            groups=cell["group_id"],
            resamples=resamples,
            seed=seed,
            confidence=confidence,
        )
        for cell in cells
    ]
    least = min(estimates, key=lambda estimate: estimate.low)
    return judge(text, measure, Estimate(least.value, least.low, least.high, len(old)), confidence)


def _spread(known: pd.DataFrame, confidence: float, resamples: int, seed: int) -> Claim:
    text = "Age error varies by about a year across gender and ethnicity groups"
    counts = known.groupby(["gender", "ethnicity"])["age"].transform("size")
    large = known[counts >= 20]
    cell = large["gender"] * len(ETHNICITIES) + large["ethnicity"]
    measure = f"largest minus smallest MAE over {cell.nunique()} groups of 20 and more, less what chance makes, years"
    if cell.nunique() < 2:
        return judge(text, measure, Estimate(np.nan, np.nan, np.nan, len(large)), confidence)
    error = (large["age_pred"] - large["age"]).abs().to_numpy()

    def spread(error: np.ndarray, cell: np.ndarray) -> float:
        means = pd.Series(error).groupby(cell).mean()
        return means.max() - means.min()

    # A range of noisy means is never 0: what shuffled groups show is subtracted.
    rng = np.random.default_rng(seed)
    by_chance = np.mean([spread(error, rng.permutation(cell.to_numpy())) for _ in range(200)])
    estimate = metrics.bootstrap(
        lambda error, cell: spread(error, cell) - by_chance,
        error,
        cell.to_numpy(),
        groups=large["group_id"],
        resamples=resamples,
        seed=seed,
        confidence=confidence,
    )
    return judge(text, measure, estimate, confidence)
