"""What networks trained on one data set predict on another: trained on each and on both, tested on each.

The run joins the data sets and splits each (`facelib run --data A --data B --run RUN --to 2`). Every network is trained
on the run's training rows of its data sets and evaluated on the validation rows of all; each call trains what is
missing, resumes what was killed, and keeps small results as each finishes. The test rows are judged by finished runs
alone: one that joins the data sets, and others whose split it keeps (setting `split_of`). The page is
reports/cross_data.

usage: python -m studies.cross_data RUN [--only NAME ...]
       python -m studies.cross_data RUN --test OTHER [OTHER ...]
       python -m studies.cross_data --page
"""

import argparse
import re
import statistics
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from facelib import config, metrics
from facelib.audit import decisions
from facelib.config import Settings, resolve
from facelib.data.ingest import load_images
from facelib.data.label_maps import parse_map
from facelib.data.pixels import FaceImages, resize
from facelib.data.published import FIVE_CLASSES
from facelib.formats import plain, read_json, write_json
from facelib.models.checkpoints import load_result
from facelib.models.heads import predictions_table
from facelib.models.network import FaceNet, predict_outputs
from facelib.models.training import learns_in_bfloat16, train_multitask
from facelib.prediction import Predictor
from facelib.prediction.calibration import fit_age_intervals, fit_temperature
from facelib.runs import RunFolder, digest_of_faces, git_commit, open_run, project_root, runs_root
from facelib.schema import (
    AGE,
    ETHNICITY,
    GENDER,
    OLD_YEARS,
    ClassAttribute,
    class_attributes,
    label_columns,
    labelled,
)
from facelib.statistics import SHARE, YEARS, Bootstrap, Estimate
from facelib.storage import atomic_path, write_text
from studies import CROSS_DATA_RESULTS
from studies.pages import interval, table

FOLDER = project_root() / CROSS_DATA_RESULTS
UTKFACE, FAIRFACE = "utkface", "fairface"
FROM = {"utkface": (UTKFACE,), "fairface": (FAIRFACE,), "both": (UTKFACE, FAIRFACE)}
SHORT = {"recipe": "face", "epochs": 5, "augmentation": "photographs"}
RECIPES = {
    "face": SHORT,
    "face, equal": SHORT | {"sampler": "sources"},
    "random": {"image_px": 64, "epochs": 8, "augmentation": "photographs"},
    "ImageNet": {
        "architecture": "efficientnet_lite0", "start_weights": "imagenet", "image_px": 112, "epochs": 5,
        "head_epochs": 1, "warmup_epochs": 1, "backbone_rate": 0.3, "frozen_stages": 3,
        "augmentation": "photographs", "augmented_epochs": 14,
    },
}  # fmt: skip
# How the page calls networks and interventions.
STARTS = {
    "face": "face weights",
    "face, equal": "face weights, equal shares",
    "random": "random weights",
    "ImageNet": "ImageNet weights",
}
TITLES = {UTKFACE: "UTKFace", FAIRFACE: "FairFace", "both": "both"}
INTERVENTIONS = {
    "the same frame": "cropped to the frame of UTKFace's photographs",
    "the mix of UTKFace's groups": "reweighted to UTKFace's mix of groups",
    "learning from both": "predicted by a network trained on both",
    "Middle Eastern is White": "Middle Eastern counted as White",
}
FAIRFACE_TO_FIVE = parse_map(FIVE_CLASSES).fields["ethnicity"].meanings  # by name in lower case
MARK = "\\*"  # of rows that were evaluated on other faces than most
# Share of a FairFace chip that UTKFace's chips show: left, top, edge.
FRAME = (0.04, 0.04, 0.92)
CHILD, SCHOOL = 18, 5
FEW, DRAWS = (200, 1000), 20  # faces of a data set that somebody could label for its calibration; draws of them
MEASURES = {
    "age.mae": ("age MAE (years)", ".2f"),
    "age.mae_gt45": ("over 45 (years)", ".2f"),
    "age.bias": ("age bias (years)", "+.2f"),
    "age.band_accuracy": ("age within the band", ".1%"),
    "age.band_miss": ("years outside the band", ".2f"),
    "age.held": ("90 % age intervals cover", ".1%"),
    "gender.accuracy": ("gender", ".1%"),
    "five.accuracy": ("five classes", ".1%"),
    "race.accuracy": ("seven races", ".1%"),
}

# Of which changes on the same faces are shown, and how.
GAINS = {
    "age.mae": "+.2f", "age.bias": "+.2f", "age.band_accuracy": "+.1%", "gender.accuracy": "+.1%",
    "five.accuracy": "+.1%",
}  # fmt: skip


def name_of(sources: str, start: str, seed: int = 0) -> str:
    """The name of a network: its data sets, its recipe and its seed."""
    return f"{sources} from {start}" + (f", seed {seed}" if seed else "")


def network_names() -> list[str]:
    """The names of all networks; those of one data set have no recipe that balances data sets."""
    return [name_of(s, r) for r in RECIPES for s in FROM if s == "both" or r != "face, equal"]


def titled(text: str) -> str:
    """A text in which networks and data sets have the names that a reader knows.

    Examples
    --------
    >>> titled("both from face minus utkface (face), on fairface")
    'both (face weights) minus reference network, on FairFace'
    """
    text = re.sub(r"utkface \(\w+\)", "reference network", re.sub(r"faces \(\w+\)", "joint network", text))
    starts = "|".join(sorted(STARTS, key=len, reverse=True))
    text = re.sub(rf"(\w+) from ({starts})\b", lambda found: f"{found[1]} ({STARTS[found[2]]})", text)
    return re.sub(rf"\b({UTKFACE}|{FAIRFACE})\b", lambda found: TITLES[found[0]], text)


def settings_of(name: str) -> Settings:
    """The settings that a name of `name_of` stands for."""
    start, seed = re.fullmatch(r"\w+ from (.+?)(?:, seed (\d+))?", name).groups()
    return resolve("full", {"image_px": 150, "seed": int(seed or 0), **RECIPES[start]})


def folder_of(run: RunFolder) -> Path:
    """Where a run's networks and their predictions are kept."""
    return runs_root() / "cross_data" / run.name


def trained(run: RunFolder, name: str) -> tuple[FaceNet, pd.DataFrame, FaceImages, dict[str, np.ndarray]]:
    """A network, trained, resumed or loaded, its losses by epoch, the run's images at its size, and the rows in use."""
    faces, settings = run.load_table("faces"), settings_of(name)
    labels, rows = decisions.load_training(run)
    own = np.flatnonzero(faces["source"].isin(FROM[name.partition(" from ")[0]]))
    images, learned = resize(load_images(run, faces), settings.data.image_px), labelled(faces.iloc[own], run.learned)
    training = (np.intersect1d(rows[part], own) for part in ("train", "validation"))
    folder = folder_of(run) / name
    network, history = train_multitask(images, labels, *training, learned, settings, folder, faces["image_id"])
    return network, history, images, rows


def check_settings(folder: Path, name: str) -> None:
    """SystemExit if the finished network of a name was made with other settings than the name stands for now."""
    made, now = read_json(folder / f"{name}.json")["settings"], plain(settings_of(name).flat())
    other = [key for key in now if key != "recipe" and made.get(key) != now[key]]  # what a recipe sets is compared
    if other:
        raise SystemExit(f"{name} was made with other settings ({', '.join(other)}): remove it from {folder}")


def train(run: RunFolder, name: str) -> None:
    """Train a network and keep its predictions of the validation and calibration rows; finished ones stay."""
    folder, faces = folder_of(run), run.load_table("faces")
    if (folder / f"{name}.json").exists():
        check_settings(folder, name)
        return
    wall, processor = time.perf_counter(), time.process_time()
    network, history, images, rows = trained(run, name)
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    # Epochs that an earlier call learned count in the training's own time alone.
    seconds["training"] = load_result(folder / name).seconds
    held_out = np.concatenate([rows["validation"], rows["calibration"]])
    keep(network, images.take(held_out), held_out, faces, folder / f"{name}.parquet")
    if UTKFACE in name:
        others = rows["validation"][(faces["source"] == FAIRFACE).to_numpy()[rows["validation"]]]
        keep(network, reframed(images, others), others, faces, folder / f"{name}, reframed.parquet")
    facts = {"settings": settings_of(name).flat(), "seconds": seconds, "epochs": len(history)}
    facts["bfloat16"] = learns_in_bfloat16(network)
    write_json(folder / f"{name}.json", facts | {"attributes": [attribute.name for attribute in network.attributes]})


def keep(network: FaceNet, images: FaceImages | np.ndarray, rows: np.ndarray, faces: pd.DataFrame, path: Path) -> None:
    """Keep what a network predicts for images of some rows of the faces."""
    predicted = predictions_table(predict_outputs(network, images), network.attributes)
    with atomic_path(path) as partial:
        faces[["image_id"]].iloc[rows].reset_index(drop=True).join(predicted).to_parquet(partial, index=False)


def reframed(images: FaceImages, rows: np.ndarray) -> np.ndarray:
    """FairFace's chips cut to the frame of UTKFace's: uint8 (n, px, px, 3)."""
    px = images.px
    left, top, edge = (share * px for share in FRAME)
    box = (left, top, left + edge, top + edge)
    cut = [Image.fromarray(images[row]).resize((px, px), Image.Resampling.BICUBIC, box=box) for row in rows]
    return np.stack([np.asarray(image) for image in cut])


def judge_test(names: list[str]) -> dict:
    """The predictors of finished runs on the test faces of the first, which joins the data sets; readings are logged.

    Its split keeps theirs, so that none was trained on one of these faces.
    """
    runs, tables = [open_run(name) for name in names], {}
    first, splits = runs[0], runs[0].load_table("splits")
    rows = np.flatnonzero((splits["split"] == "test") & splits["representative"])
    faces = first.load_table("faces")
    images, contents = load_images(first, faces)[rows], faces["sha256"].iloc[rows]
    for run in runs:
        theirs = run.load_table("splits").assign(sha256=run.load_table("faces")["sha256"])
        if contents.isin(theirs.loc[theirs["split"] != "test", "sha256"]).any():
            raise SystemExit(f"{run.name} was trained on test faces of {first.name}: make one run with split_of")
    for run in runs:
        predictor, own = Predictor.load(run), run.load_table("splits")
        run.log_test_read("cross_data", own.loc[(own["split"] == "test") & own["representative"], "image_id"])
        predicted = predictor.predictions(predictor.outputs(images), images, None)
        table = faces[["image_id"]].iloc[rows].reset_index(drop=True).join(predicted)
        tables[f"{run.name} ({run.settings.recipe})"] = framed(first, table, "test")
    found: dict = {"scored": datetime.now(UTC).isoformat(timespec="seconds"), "commit": git_commit()}
    found |= {"matrix": matrix(tables), "gains": {}}
    (name, frame), *others = tables.items()
    for other, before in others:
        for source in (UTKFACE, FAIRFACE):
            pair = [part[part["source"] == source].reset_index(drop=True) for part in (before, frame)]
            found["gains"][f"{name} minus {other}, on {source}"] = paired(*pair)
    return found


# --- what each face adds to each measure ---------------------------------------------------------------------


def race_of(run: RunFolder) -> ClassAttribute:
    """FairFace's seven races as the run has them."""
    return next(attribute for attribute in class_attributes(run.attributes) if attribute.name == "race")


def five_of(race: pd.Series, classes: tuple[str, ...], middle_eastern: str = "Other") -> np.ndarray:
    """Codes of UTKFace's five classes for codes of FairFace's seven, nan where unknown."""
    five = FAIRFACE_TO_FIVE | {"middle eastern": middle_eastern}
    codes = pd.Series([ETHNICITY.parse(five[name.lower()]) for name in classes], dtype=float)
    return race.where(race >= 0).map(codes).to_numpy(float)


def judged(run: RunFolder, name: str, part: str, suffix: str = "") -> pd.DataFrame:
    """The `framed` predictions of a network on one split of the run."""
    return framed(run, pd.read_parquet(folder_of(run) / f"{name}{suffix}.parquet"), part)


def framed(run: RunFolder, table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Predictions on one split of the run with labels, and with five-class labels and answers."""
    splits = run.load_table("splits")[["image_id", "split"]]
    faces = run.load_table("faces")[["image_id", "source", *label_columns(run.load_table("faces"), run.attributes)]]
    frame = table.merge(faces, on="image_id").merge(splits, on="image_id").query("split == @part")
    race = race_of(run)
    ethnicity = frame["ethnicity"].where(frame["ethnicity"] >= 0).astype(float)
    frame["five"] = ethnicity.fillna(pd.Series(five_of(frame["race"], race.classes), frame.index))
    if set(ETHNICITY.columns) <= set(frame):
        frame["five_pred"] = ETHNICITY.decode(frame)
    else:  # the seven probabilities, added up as the classes are merged
        to = np.array([ETHNICITY.parse(FAIRFACE_TO_FIVE[name.lower()]) for name in race.classes])
        merged = race.probabilities(frame) @ np.eye(len(ETHNICITY.classes))[to]
        frame["five_pred"] = merged.argmax(axis=1)
    if set(race.columns) <= set(frame):
        frame["race_pred"] = race.decode(frame)
    return frame.reset_index(drop=True)


def scores(frame: pd.DataFrame) -> pd.DataFrame:
    """What each face adds to each of `MEASURES`; nan where it does not count."""
    predicted = pd.Series(metrics.whole_years(frame["age_pred"]), frame.index)
    error, banded = predicted - frame["age"], AGE.has_band(frame)
    outside = pd.Series(metrics.years_outside(*(frame[c] for c in AGE.band_columns), predicted), frame.index)
    outside = outside.where(banded)
    table = {
        "age.mae": error.abs(),
        "age.mae_gt45": error.abs().where(frame["age"] > OLD_YEARS),
        "age.bias": error,
        "age.band_accuracy": (outside == 0).where(banded),
        "age.band_miss": outside,
        "gender.accuracy": (GENDER.decode(frame) == frame["gender"]).where(frame["gender"] >= 0),
        "five.accuracy": (frame["five_pred"] == frame["five"]).where(frame["five"].notna()),
    }
    if "age_low" in frame:
        table["age.held"] = held(frame, frame["age_low"], frame["age_high"])
    if "race_pred" in frame:
        table["race.accuracy"] = (frame["race_pred"] == frame["race"]).where(frame["race"] >= 0)
    return pd.DataFrame(table).astype(float)


def held(frame: pd.DataFrame, low: np.ndarray, high: np.ndarray) -> pd.Series:
    """Whether intervals cover the labelled age, or meet the labelled band; nan without a label or an interval."""
    first, last = (frame[column].to_numpy(float) for column in AGE.band_columns)
    ends = np.where(AGE.has_band(frame), (first, last), frame["age"].to_numpy(float))
    known = np.isfinite(ends[0]) & np.isfinite(np.asarray(low, float))
    return pd.Series((low <= ends[1]) & (high >= ends[0]), frame.index).where(known).astype(float)


def estimate(values: pd.Series, unit: str) -> Estimate:
    """The mean of the values that are known, with its interval."""
    return Bootstrap()(np.mean, values.dropna().to_numpy(), unit=unit)


def unit_of(measure: str) -> str:
    return YEARS if MEASURES[measure][0].endswith("(years)") or "miss" in measure else SHARE


def means(table: pd.DataFrame) -> dict[str, dict]:
    """The mean of each measure that two faces or more count for, with its interval."""
    return {m: estimate(table[m], unit_of(m)).to_dict() for m in table if table[m].notna().sum() > 1}


def matrix(frames: dict[str, pd.DataFrame]) -> dict:
    """Every measure of every network on the faces of every data set."""
    return {
        name: {source: means(part) for source, part in scores(frame).groupby(frame["source"])}
        for name, frame in frames.items()
    }


def groups_of(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Groups that may overlap, by name: bool (n,)."""
    ages = AGE.middles(frame)
    named = {f"label {name}": frame["five"] == code for code, name in enumerate(ETHNICITY.classes)}
    genders = {name: frame["gender"] == code for code, name in enumerate(GENDER.classes)}
    bands = {
        f"under {SCHOOL}": ages < SCHOOL, f"{SCHOOL} to {CHILD - 1}": ages.between(SCHOOL, CHILD, inclusive="left"),
        f"{CHILD} to {OLD_YEARS}": ages.between(CHILD, OLD_YEARS), f"over {OLD_YEARS}": ages > OLD_YEARS,
    }  # fmt: skip
    return {"all": ages.notna() | True} | bands | genders | named


def by_group(table: pd.DataFrame, frame: pd.DataFrame) -> dict:
    """The `means` of each group of the faces of a frame, whose scores, or differences of scores, are in a table."""
    return {group: means(table[member.to_numpy()]) for group, member in groups_of(frame).items()}


def paired(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """Second minus first on the same faces, in each group."""
    if not first["image_id"].equals(second["image_id"]):
        raise SystemExit("two networks judged other faces: train them on the same run")
    return by_group(scores(second) - scores(first), first)


# --- shift ---------------------------------------------------------------------------------------------------


def mix_weights(frame: pd.DataFrame, like: pd.DataFrame) -> np.ndarray:
    """Weights (n,) that give a data set the shares of age group, gender and class of another; 0 where that has none."""
    ages = [
        pd.cut(AGE.middles(f), [-1, 9.5, 19.5, 29.5, 39.5, 49.5, 59.5, 69.5, 200]).astype(str) for f in (frame, like)
    ]
    strata = [a + "/" + f["gender"].astype(str) + "/" + f["five"].astype(str)
              for a, f in zip(ages, (frame, like), strict=True)]  # fmt: skip
    shares, wanted = (s.value_counts(normalize=True) for s in strata)
    return strata[0].map((wanted / shares).dropna()).fillna(0.0).to_numpy(float)


def mean_shift(values: np.ndarray, weights: np.ndarray) -> float:
    """The weighted mean minus the plain one; nan where no face has a weight."""
    return float(np.average(values, weights=weights) - values.mean()) if weights.any() else float("nan")


def difference(values: np.ndarray, second: np.ndarray) -> float:
    """The mean of the values of a second group, marked by 1, minus that of the others; nan where either is empty."""
    return float(values[second == 1].mean() - values[second == 0].mean()) if 0 < second.mean() < 1 else float("nan")


def in_bands(frame: pd.DataFrame, like: pd.DataFrame) -> pd.Series:
    """Whether predicted ages lie in the band of another data set that holds the labelled age: float (n,).

    Its bands must neither overlap nor leave a gap.
    """
    bands = like.loc[AGE.has_band(like), list(AGE.band_columns)].drop_duplicates().sort_values(AGE.band_columns[0])
    starts = bands[AGE.band_columns[0]].to_numpy(float)
    labelled_band, predicted_band = (
        np.searchsorted(starts, years, side="right") for years in (frame["age"], metrics.whole_years(frame["age_pred"]))
    )
    return pd.Series(labelled_band == predicted_band, frame.index, dtype=float).where(frame["age"].notna())


def shift(run: RunFolder, frames: dict[str, pd.DataFrame], own: str, both: str) -> dict:
    """Accuracy of a network of UTKFace on both data sets, and its change on FairFace's faces by each intervention."""
    frame = frames[own]
    ours, other = (frame[frame["source"] == source].reset_index(drop=True) for source in (UTKFACE, FAIRFACE))
    recut = judged(run, own, "validation", ", reframed")
    recut = recut.set_index("image_id").loc[other["image_id"]].reset_index()
    joint = frames[both][frames[both]["source"] == FAIRFACE].reset_index(drop=True)
    race = race_of(run)
    found: dict = {}
    for measure in ("gender.accuracy", "five.accuracy", "age.band_accuracy"):
        base, home = scores(other)[measure], scores(ours)[measure]
        if measure == "age.band_accuracy":
            home = in_bands(ours, other)
        rows = {"on UTKFace": estimate(home, SHARE), "on FairFace": estimate(base, SHARE)}
        joined_scores = pd.concat([home, base], keys=[UTKFACE, FAIRFACE]).dropna()
        of_fairface = (joined_scores.index.get_level_values(0) == FAIRFACE).astype(float)
        rows["FairFace minus UTKFace"] = Bootstrap()(difference, joined_scores.to_numpy(), of_fairface, unit=SHARE)
        rows["the same frame"] = estimate(scores(recut)[measure] - base, SHARE)
        if measure == "five.accuracy":
            white = other.assign(five=five_of(other["race"], race.classes, "White"))
            rows["Middle Eastern is White"] = estimate(scores(white)[measure] - base, SHARE)
            clear = base[~other["race"].isin([race.parse(n) for n in ("Middle Eastern", "Latino_Hispanic")])]
            rows["on FairFace without Middle Eastern and Latino_Hispanic"] = estimate(clear, SHARE)
        weights, known = mix_weights(other, ours), base.notna().to_numpy()
        mixed = Bootstrap()(mean_shift, base[known].to_numpy(), weights[known], unit=SHARE)
        rows["the mix of UTKFace's groups"] = mixed
        rows["learning from both"] = estimate(scores(joint)[measure] - base, SHARE)
        found[measure] = {key: value.to_dict() for key, value in rows.items()}
    return found


# --- calibration ---------------------------------------------------------------------------------------------


def nearest_label(frame: pd.DataFrame, ages: np.ndarray) -> np.ndarray:
    """The labelled age, or the age of the labelled band that is nearest to a prediction: float (n,)."""
    first, last = (frame[column].to_numpy(float) for column in AGE.band_columns)
    return np.where(AGE.has_band(frame), np.clip(ages, first, last), frame["age"].to_numpy(float))


def calibrated(fitted_on: pd.DataFrame, judged_on: pd.DataFrame) -> dict:
    """Temperature of gender by one frame; coverage and width of 90 % age intervals by it, and calibration, of another.

    An interval covers a band if the two meet; a band's conformity score is its distance from the prediction. The
    measures are by data set.
    """
    predicted = fitted_on["age_pred"].to_numpy()
    intervals = fit_age_intervals(nearest_label(fitted_on, predicted), predicted)
    low, high = intervals(judged_on["age_pred"].to_numpy())
    holds = held(judged_on, low, high)
    known = GENDER.is_known(fitted_on["gender"])
    logits = np.log(GENDER.probabilities(fitted_on[known]).clip(1e-7, 1))
    temperature = fit_temperature(logits, fitted_on["gender"].to_numpy(int)[known])
    scaled = np.log(GENDER.probabilities(judged_on).clip(1e-7, 1)) / temperature
    probability = np.exp(scaled - np.logaddexp(*scaled.T)[:, None])
    right = probability.argmax(axis=1) == judged_on["gender"]
    found: dict = {"temperature": temperature}
    for source in (UTKFACE, FAIRFACE):
        own = ((judged_on["source"] == source) & (judged_on["gender"] >= 0)).to_numpy()
        found[source] = {
            "coverage": estimate(holds[own], SHARE).to_dict(),
            "width": estimate(pd.Series(high - low)[own], YEARS).to_dict(),
            "gender_calibration_error": metrics.expected_calibration_error(right[own], probability.max(axis=1)[own]),
            "gender_log_loss": float(-np.log(probability[own, judged_on["gender"].to_numpy(int)[own]]).mean()),
        }
    return found


def over_draws(fits: list):
    """The same measures of several draws: their means and, of coverage and width, the least and the largest."""
    first = fits[0]
    if not isinstance(first, dict):
        return float(np.mean(fits))
    if "low" in first:
        values = [fit["value"] for fit in fits]
        return first | {"value": float(np.mean(values)), "low": min(values), "high": max(values)}
    return {key: over_draws([fit[key] for fit in fits]) for key in first}


def calibration(run: RunFolder, name: str) -> dict:
    """`calibrated` on the validation faces, by what it was fitted on: each data set, both, and few faces of FairFace.

    For the latter the ends of the intervals are the least and the largest of `DRAWS` draws.
    """
    fitted_on, judged_on = (judged(run, name, part) for part in ("calibration", "validation"))
    ours, others = (fitted_on[fitted_on["source"] == source] for source in (UTKFACE, FAIRFACE))
    found = {key: calibrated(part, judged_on) for key, part in
             {UTKFACE: ours, FAIRFACE: others, "both": fitted_on}.items()}  # fmt: skip
    for n in FEW:
        draws = [others.sample(min(n, len(others)), random_state=draw) for draw in range(DRAWS)]
        found[f"{n:,} faces of {FAIRFACE}"] = over_draws([calibrated(draw, judged_on) for draw in draws])
    return found


# --- the page ------------------------------------------------------------------------------------------------

OPENING = """# Transfer between UTKFace and FairFace

Networks trained on UTKFace, FairFace and both, each evaluated on held-out faces of both. Made by
`python -m studies.cross_data RUN`, where RUN joins the two data sets:
`facelib run --data path/to/UTKFace --data path/to/fairface --profile full --run RUN --to 2 -p recipe face`.
The short trainings have a split of their own, with copies and recognised persons on one side of it, also across the
data sets. The published networks keep the split of the reference run; the [data card](../faces/data_card.md) says how
many of its test images show a person who was recognised in another split. The face network whose weights are the start
may have seen some of these people, by identity and never by the labels used here. Intervals are 95 %, by bootstrap over
faces. They are not widened for the number of groups. Those of the coverage of age intervals do not include what another
draw of calibration faces would change.

FairFace here is a part of its training photographs, split by this project: these figures cannot be compared with those
on FairFace's own validation set. For a network trained on others of these photographs it is a test within the data set.

The five classes are UTKFace's; FairFace's Latino_Hispanic and Middle Eastern count as Other there, unless a row says
otherwise. FairFace labels ages by bands alone. An age interval counts as right if it meets the band, so that the
coverage of true ages is overestimated. Labels are judgements of appearance, not what people are.
"""


def summarise(run: RunFolder) -> dict:
    """All results of the networks that are trained so far in this folder of runs."""
    folder = folder_of(run)
    of_name = ((folder / f"{name}.json", *sorted(folder.glob(f"{name}, seed *.json"))) for name in network_names())
    names = [path.stem for paths in of_name for path in paths if path.exists()]
    frames = {name: judged(run, name, "validation") for name in names}
    found: dict = {
        "networks": {name: read_json(folder / f"{name}.json") for name in names},
        "judged_on": {}, "validation": matrix(frames), "groups": {}, "gains": {}, "shift": {}, "calibration": {},
    }  # fmt: skip
    for name, frame in frames.items():
        found["judged_on"][name] = digest_of_faces(frame["image_id"])
        found["groups"][name] = {source: by_group(scores(part), part) for source, part in frame.groupby("source")}
    for recipe in RECIPES:
        own = name_of("utkface", "face" if recipe == "face, equal" else recipe)
        both = name_of("both", recipe)
        if both in frames and own in frames:
            ours = [frames[n][frames[n]["source"] == UTKFACE].reset_index(drop=True) for n in (own, both)]
            found["gains"][f"{both} minus {own}"] = paired(*ours)
            if recipe == "face":
                found["shift"][f"{own}; {both}"] = shift(run, frames, own, both)
                found["calibration"] |= {name: calibration(run, name) for name in (own, both)}
    return found


def joined(known: dict, found: dict) -> dict:
    """Results of `summarise` beside those of networks that were trained elsewhere."""
    return known | {key: known.get(key, {}) | part for key, part in found.items()}


def judged_elsewhere(judged_on: dict[str, str]) -> list[str]:
    """Networks that were evaluated on other faces than most, by the digest of the faces of each.

    Examples
    --------
    >>> judged_elsewhere({"a": "these", "b": "others", "c": "these"})
    ['b']
    """
    most = statistics.mode(judged_on.values())
    return [name for name, faces in judged_on.items() if faces != most]


def matrix_table(found: dict, networks: dict, elsewhere: Collection[str] = ()) -> str:
    """A row per network and data set judged; of `networks` with their processor time, `elsewhere` with a mark."""
    place = {name: number for number, name in enumerate(network_names())}
    found = dict(sorted(found.items(), key=lambda item: place.get(item[0].partition(", seed ")[0], len(place))))
    rows, shown = [], [m for m in MEASURES if any(m in part for sources in found.values() for part in sources.values())]
    for name, sources in found.items():
        for source, measured in sources.items():
            cells = [interval(measured[m], MEASURES[m][1]) if m in measured else "-" for m in shown]
            n = max(value["n"] for value in measured.values())
            minutes = [minutes_of(networks[name])] if networks else []
            network = titled(name) + (earlier_recipe(networks[name]) if networks else "")
            rows.append([network, *minutes, titled(source) + MARK * (name in elsewhere), f"{n:,}", *cells])
    header = ["network", *(["minutes"] if networks else []), "evaluated on", "n"]
    return table([*header, *(MEASURES[m][0] for m in shown)], rows)


def earlier_recipe(facts: dict) -> str:
    """The recipe of a network, if the code no longer has one of its name; else nothing.

    Examples
    --------
    >>> earlier_recipe({"settings": {"recipe": "face_top"}}), earlier_recipe({"settings": {"recipe": "face"}})
    (', by `face_top`', '')
    """
    recipe = facts["settings"]["recipe"]
    return "" if recipe in config.RECIPES else f", by `{recipe}`"


def minutes_of(facts: dict) -> str:
    """Processor time of a training, `-` where an earlier call did a part, and in which precision the machine did it."""
    precision = {True: ", bfloat16", False: ", float32"}.get(facts.get("bfloat16"), "")
    seconds = facts["seconds"]
    return f"{seconds['processor'] / 60:.0f}{precision}" if seconds["wall"] >= seconds["training"] else f"-{precision}"


def gains_table(groups: dict) -> str:
    """Changes of each group on the same faces."""
    shown = [measure for measure in GAINS if any(measure in values for values in groups.values())]
    rows = [
        [group, f"{values['gender.accuracy']['n']:,}",
         *(interval(values[m], GAINS[m]) if m in values else "-" for m in shown)]
        for group, values in groups.items() if "gender.accuracy" in values
    ]  # fmt: skip
    return table(["group", "n", *(MEASURES[m][0] for m in shown)], rows)


def findings(found: dict) -> str:
    """What training on both data sets changes, and what intervals cover on the other one: a sentence each."""
    lines = []
    for title, groups in found.get("test", {"gains": {}})["gains"].items():
        lines.append(f"Test faces, {titled(title)}: {changes_of(groups['all'])}.")
    for title, measured in found["shift"].items():
        own, _ = title.split("; ")
        for measure, rows in measured.items():
            moved = [f"{INTERVENTIONS[key]} {interval(rows[key], '+.1%')}" for key in INTERVENTIONS if key in rows]
            lines.append(
                f"Short trainings, validation faces, trained on {titled(own)}, {MEASURES[measure][0]}: "
                f"FairFace minus UTKFace {interval(rows['FairFace minus UTKFace'], '+.1%')}. On the same FairFace "
                f"faces, one change at a time: {'; '.join(moved)}. The changes overlap, so they cannot be added."
            )
    for title, groups in found["gains"].items():
        lines.append(f"Short trainings, UTKFace's validation faces, {titled(title)}: {changes_of(groups['all'])}.")
    for name, fitted in found["calibration"].items():
        shares = [
            f"{interval(fit[FAIRFACE]['coverage'], '.1%')} fitted on {titled(key)}" for key, fit in fitted.items()
        ]
        lines.append(
            f"Short trainings, coverage of the 90 % age intervals of {titled(name)} on FairFace: {', '.join(shares)}."
        )
    return "".join(f"- {line}\n" for line in lines)


def changes_of(values: dict) -> str:
    """The changes of one group in a sentence."""
    return ", ".join(f"{MEASURES[m][0]} {interval(values[m], form)}" for m, form in GAINS.items() if m in values)


def page(found: dict) -> str:
    """The page of the results."""
    summary = findings(found)
    parts = [OPENING, f"\n## What was found\n\n{summary}" if summary else ""]
    if tested := found.get("test"):
        parts += [
            "\n## The published networks, on test faces\n\nThe [reference network](../utkface/README.md) is "
            "trained on UTKFace, the [joint network](../faces/README.md) on FairFace too; their recipes differ in "
            "epochs and augmentation as well. Neither is trained on one of these images; copies across the split are "
            "counted in the [joint network's report](../faces/README.md), and faces of UTKFace that only the joined "
            "data show to be copies of tested ones were left out of the joint network's training alone. Each has the "
            "temperatures, intervals and way to predict age of its own validation and calibration faces; ages in "
            f"years, which UTKFace alone has, determine the intervals. Scored {tested['scored'][:10]}.\n"
        ]
        parts.append(matrix_table(tested["matrix"], {}))
        for title, groups in tested["gains"].items():
            parts += [f"\n### {titled(title)}, on the same faces\n", gains_table(groups)]
    parts.append(
        "\n## Short trainings, on validation faces\n\nNetworks are named by what they are trained on. Five epochs from "
        "face weights at 150 px, eight from random ones at 64 px, five of EfficientNet-Lite0 from ImageNet's "
        "at 112 px. Faces, epochs and resolution differ from those above and between start "
        "weights: compare only rows of the same start weights and draw of the split. Minutes are of a core "
        "of the machine that trained the network: machines differ.\n"
    )
    if any(map(earlier_recipe, found["networks"].values())):
        parts.append(
            "\nNetworks of an earlier recipe name it "
            "([what replaced it](../training/README.md#fine-tuning-the-face-network)).\n"
        )
    elsewhere = judged_elsewhere(found["judged_on"])
    if elsewhere:
        parts.append(
            f"\n{MARK} Trained and evaluated on another draw of the split than the rows without a mark. A paired "
            "comparison with these is not possible, and the intervals leave out what another split or training "
            "changes.\n"
        )
    parts.append(matrix_table(found["validation"], found["networks"], elsewhere))
    if found["gains"]:
        parts.append(
            "\n## Who gains on UTKFace\n\nOn the same faces. Negative values of age MAE mean a lower error of the "
            "network trained on both.\n"
        )
    for title, groups in found["gains"].items():
        parts += [f"\n### {titled(title)}\n", gains_table(groups)]
    for title, measured in found["shift"].items():
        parts += [
            "\n## What narrows the gap between UTKFace and FairFace\n\n"
            f"Networks: {titled(title)}. The first rows are levels, of ages by FairFace's bands; the others are "
            "changes on the same FairFace faces, one at a time.\n"
        ]
        keys = dict.fromkeys(key for rows in measured.values() for key in rows)
        keys = sorted(keys, key=lambda key: not key.startswith("on "))
        levels = [key for key in keys if key.startswith("on ")]
        rows = [
            [INTERVENTIONS.get(key, key),
             *(interval(own[key], ".1%" if key in levels else "+.1%") if key in own else "-"
               for own in measured.values())]
            for key in keys
        ]  # fmt: skip
        parts.append(table(["what", *(MEASURES[m][0] for m in measured)], rows))
    for title, fitted in found["calibration"].items():
        parts += [
            f"\n## Calibration and coverage of {titled(title)}\n\n90 % age intervals and the temperature of "
            f"gender. Of few faces, the mean and in parentheses the least and the largest of {DRAWS} draws.\n"
        ]
        rows = [
            [titled(key), f"{values['temperature']:.2f}", titled(source), interval(values[source]["coverage"], ".1%"),
             f"{values[source]['width']['value']:.1f}", f"{values[source]['gender_calibration_error']:.3f}",
             f"{values[source]['gender_log_loss']:.3f}"]
            for key, values in fitted.items() for source in (UTKFACE, FAIRFACE)
        ]  # fmt: skip
        header = ["fitted on", "temperature", "evaluated on", "coverage", "width (years)",
                  "gender calibration error", "gender log loss"]  # fmt: skip
        parts.append(table(header, rows))
    parts += ["\n## By group\n"]
    for name in (name for name in found["groups"] if name.endswith(" from face")):
        for source, groups in found["groups"][name].items():
            parts.append(f"\n### {titled(f'{name}, evaluated on {source}')}\n")
            shown = [m for m in MEASURES if any(m in values for values in groups.values())]
            rows = [[group, *(interval(values[m], MEASURES[m][1]) if m in values else "-" for m in shown)]
                    for group, values in groups.items() if values]  # fmt: skip
            parts.append(table(["group", *(MEASURES[m][0] for m in shown)], rows))
    return "".join(parts)


def main() -> None:
    """Train what is missing, judge test rows, or make the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--test", nargs="+", metavar="OTHER", default=[])
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    path = FOLDER / "results.json"
    known = read_json(path) if path.exists() else {}
    if options.test:
        write_json(path, known | {"test": judge_test([options.run, *options.test])})
    if options.test or options.page:
        write_text(FOLDER / "README.md", page(read_json(path)))
        return
    run = open_run(options.run)
    for name in [*(options.only or network_names()), None]:
        if name:
            train(run, name)
        found = joined(known, summarise(run))
        write_json(path, found)
        write_text(FOLDER / "README.md", page(found))
        print(name or "page", "done", flush=True)


if __name__ == "__main__":
    main()
