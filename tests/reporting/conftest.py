"""A run whose notebooks left findings and numbers, without any of them having run."""

import pytest

from facelib.finding import Finding
from facelib.runs import RunFolder, start_run
from facelib.schema import NOTEBOOKS, UTKFACE_ATTRIBUTES
from facelib.statistics import Estimate, count

CLAIM = {"claim": "Babies drive the errors", "measure": "error rate", "answer": "inconclusive", "n": 77}
CLAIM |= {"value": 0.012, "low": -0.02, "high": 0.04, "smallest_effect": None}


def group_tables(names: list[str]) -> dict[str, list[dict]]:
    """Metrics by age band, and by age band and gender, of those that a run learns."""
    metrics = [f"{name}_{'mae' if name == 'age' else 'accuracy'}" for name in names]
    values = {
        f"{metric}{end}": value for metric in metrics for end, value in (("", 0.6), ("_low", 0.5), ("_high", 0.7))
    }
    bands = [{"age_band": band, "n": 40} | values for band in ("0-4", "75+")]
    crossed = [row | {"gender_name": name, "n": 20} for row in bands for name in ("male", "female")]
    return {"age_band": bands, "age_band x gender_name": crossed} if {"age", "gender"} <= set(names) else {}


def filled_run(run: RunFolder) -> RunFolder:
    """Metrics of all notebooks: a finding of each key is its own text, so that a page shows which it quotes."""

    def found(*keys: str) -> list[Finding]:
        return [Finding(key, f"Text of {key}. More of {key}.", n=9) for key in keys]

    names = [attribute.name for attribute in run.learned]
    explored = {"data.images": count(1320), "data.rejected": count(3)}
    run.notebook("01_explore").save(explored, found("data.imbalance", "data.ages", "data.faces"))
    cleaned = {f"audit.label_issues.{name}": count(7) for name in names} | {"splits.leaking_pairs": count(0)}
    cleaned["audit.contradicting_groups"] = Estimate(0.25, 0.1, 0.4, 40, "share")
    run.notebook("02_clean").save(cleaned, found("copies.groups", "labels.doubted", "split.leaks"))
    run.notebook("03_train_multitask").save({}, found("training.gap", "training.curve"))
    run.notebook("04_age_two_stage").save({}, found("age.chosen"))
    years, share = Estimate(4.857, 4.5, 5.2, 1234, "years"), Estimate(0.912, 0.9, 0.93, 1200, "share")
    headline = {f"test.{name}.mae" if name == "age" else f"test.{name}.accuracy": years if name == "age" else share
                for name in names}  # fmt: skip
    headline |= {"test_cleaned.age.mae": Estimate(4.7, 4.4, 5.0, 1200, "years")} if "age" in names else {}
    baseline = {"metric": "age.mae", "baseline": "always 29 years", **Estimate(15.2, 14, 16, 1234, "years").to_dict()}
    covered = [{"group": band, "kind": kind, "value": value, "low": 0.7, "high": 0.95, "n": n}
               for band, value, n in (("30-45", 0.9, 60), ("75+", 0.79, 40), ("60-74", 0.1, 2))
               for kind in ("plain", "by predicted age")]  # fmt: skip
    others = "test.faces", "deployment.selective"
    findings = found("test.baselines", *(f"test.{name}" for name in names), *others)
    run.notebook("05_evaluate").save(headline, findings, baselines=[baseline], coverage_by_age=covered)
    groups = found("groups.worst", "groups.age_bias", "groups.age", "groups.coverage", "claims.answers")
    details = {"claims": [CLAIM], "claims_standardised": [{"claim": CLAIM["claim"], "answer": "not supported"}]}
    run.notebook("06_groups").save({}, groups, **details, groups=group_tables(names))
    for name in NOTEBOOKS[6:]:
        run.notebook(name).save({}, found("explain.regions") if name == "08_explain" else [])
    return run


@pytest.fixture
def begun(empty_runs) -> RunFolder:
    """A run whose faces are read, with UTKFace's attributes."""
    run = start_run("small", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    return run


@pytest.fixture
def filled(begun) -> RunFolder:
    """The same with metrics and findings of all notebooks."""
    return filled_run(begun)


@pytest.fixture
def fill():
    """Puts metrics and findings of all notebooks into a run, for the attributes that it learns."""
    return filled_run
