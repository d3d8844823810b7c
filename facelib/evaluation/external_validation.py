"""A trained run on another data set: the metrics of notebook 05, beside how far the two data sets lie apart."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facelib import metrics, statistics
from facelib.audit.duplicates import find_copies, group_copies
from facelib.audit.leaks import leaks_table
from facelib.audit.quality import score_quality
from facelib.data.ingest import load_images
from facelib.data.pixels import FaceImages, cache_faces, resize
from facelib.data.readers import read_faces
from facelib.data.splits import keep_one
from facelib.errors import UnreadableData
from facelib.evaluation import headline as evaluation
from facelib.models.network import predict_outputs
from facelib.prediction.ood import neighbour_distance
from facelib.prediction.predictor import load_predictor
from facelib.runs import RunFolder, cache_root, write_csv, write_json
from facelib.schema import ATTRIBUTES, age_band, is_known, label_name, labelled
from facelib.statistics import Estimate
from facelib.storage import check_writable

COMPARED_PX = 64  # edge at which images of the two data sets are compared for copies, pixels
FEWEST = 10  # faces of either data set, without which nothing is said of embeddings
MOST = 2000  # faces of either data set between which embeddings are compared
# Scores that mean the same in any data set; framing is relative to each.
QUALITY = ("dark", "bright", "contrast", "blur", "grey", "border", "tiny", "face")


def find_copied(own: pd.DataFrame, own_images: FaceImages, faces: pd.DataFrame, images: FaceImages) -> tuple:
    """Copies among some faces, and of which of them a run has a copy.

    Near copies are told from other faces from about 48 pixels on; below, a few that only look alike are among them.

    Parameters
    ----------
    own, own_images : DataFrame and FaceImages
        Faces that the run learned from, and their images.
    faces, images : DataFrame and FaceImages
        The other data set.

    Returns
    -------
    group_id : int array of shape (n,)
        Copies within `faces`, also those joined by way of a copy in the run.
    copied : DataFrame
        image_id, copy_in_run, kind, distance; see `facelib.audit.leaks.leaks_table`.
    """
    px = min(COMPARED_PX, own_images.px, images.px)
    both = [resize(part, px) for part in (own_images, images)]
    pixels = np.concatenate([part[np.arange(len(part))] for part in both])
    joined = pd.concat([own, faces], ignore_index=True)
    pairs = find_copies(joined, FaceImages(pixels, np.arange(len(pixels))))
    group_id = group_copies(len(joined), pairs)
    part = pd.Series(np.where(np.arange(len(joined)) < len(own), "train", "test"))
    leaks = leaks_table(joined, part, group_id, pairs)
    return group_id[len(own) :], leaks.rename(columns={"test_image": "image_id", "train_image": "copy_in_run"})


def band_metrics(frame: pd.DataFrame, prefix: str, resamples: int, seed: int) -> dict[str, Estimate]:
    """What can be said of ages of which only a band is known; empty where there is none.

    Parameters
    ----------
    frame : DataFrame
        From `evaluation.evaluation_frame`; `age_from` and `age_to` are the first and last whole year of the band.
    prefix : str
        Of the keys.
    resamples, seed : int
        Of the bootstrap over copy groups.

    Returns
    -------
    dict of Estimate
        age.band_accuracy, the share of predictions that lie in the band once rounded to a year; and age.band_mae_least,
        the mean of the years outside of it, which the mean absolute error is at least.
    """
    banded = frame[frame["age"].isna() & frame["age_pred"].notna()]
    banded = banded[banded["age_from"].notna()] if "age_from" in frame else banded[:0]
    if banded.empty:
        return {}
    outside = years_outside(banded["age_pred"], banded["age_from"], banded["age_to"])
    options = {"groups": banded["group_id"].to_numpy(), "resamples": resamples, "seed": seed}
    return {
        f"{prefix}.age.band_accuracy": statistics.bootstrap(np.mean, outside == 0, unit="share", **options),
        f"{prefix}.age.band_mae_least": statistics.bootstrap(np.mean, outside, unit="years", **options),
    }


def years_outside(age_pred, first, last) -> np.ndarray:
    """Whole years between a rounded age and a band of whole years, both ends included: 0 inside.

    Examples
    --------
    >>> years_outside([19.4, 19.5, 29.4, 31.0], 20, 29).tolist()
    [1.0, 0.0, 0.0, 2.0]
    """
    year = metrics.whole_years(age_pred)
    return np.maximum(np.maximum(np.asarray(first) - year, year - np.asarray(last)), 0)


def label_mix(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Share of each label in two data sets, unknown labels left out; of attributes that both know.

    Returns
    -------
    DataFrame
        topic, measure, run, table, distance: half the sum of the absolute differences of an attribute's shares (total
        variation: 0 equal, 1 disjoint), the same in all rows of the attribute.
    """
    rows = []
    for attribute in ATTRIBUTES:
        known = [faces.loc[is_known(faces[attribute]), attribute] for faces in (own, other)]
        if not all(map(len, known)):
            continue
        if attribute == "age":
            named = [pd.Series(age_band(labels)) for labels in known]
        else:
            named = [labels.map(lambda code, of=attribute: label_name(of, code)) for labels in known]
        shares = pd.concat([labels.value_counts(normalize=True, sort=False) for labels in named], axis=1).fillna(0)
        distance = np.abs(shares.iloc[:, 0] - shares.iloc[:, 1]).sum() / 2
        for label, (mine, theirs) in zip(shares.index, shares.to_numpy(), strict=True):
            rows.append((f"labels: {attribute}", f"share of {label}", mine, theirs, distance))
    return _shift(rows)


def quality_shift(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Quality scores of two data sets, both from `facelib.audit.quality.score_quality`.

    Returns
    -------
    DataFrame
        topic, measure, run, table (medians; of `face` the share in which one was found), distance: the largest gap
        between the two cumulative distributions (Kolmogorov-Smirnov: 0 equal, 1 disjoint).
    """
    rows = []
    for name in (name for name in QUALITY if name in own and name in other):
        centre = np.mean if name == "face" else np.median
        what = "share with a face found" if name == "face" else f"median score: {name}"
        distance = stats.ks_2samp(own[name], other[name], method="asymp").statistic
        rows.append(("quality", what, centre(own[name]), centre(other[name]), distance))
    return _shift(rows)


def _shift(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["topic", "measure", "run", "table", "distance"])


def embedding_shift(own: np.ndarray, other: np.ndarray, resamples: int, seed: int) -> dict[str, Estimate]:
    """How far the network's features of two data sets lie apart; empty with too few faces.

    Parameters
    ----------
    own : float array of shape (n, width)
        Of images that the network did not learn from: it knows its training images by heart.
    other : float array of shape (m, width)
    resamples, seed : int

    Returns
    -------
    dict of Estimate
        auc: how well a linear classifier tells the two apart on faces that it did not see (0.5 not at all, 1 without
        error; Lopez-Paz and Oquab, Revisiting classifier two-sample tests, 2017). distance: the mean distance of the
        other faces to the nearest own one, in units of the same between the own ones (1: no farther than among
        themselves).
    """
    rng = np.random.default_rng(seed)
    own, other = (part[rng.permutation(len(part))[:MOST]].astype(float) for part in (own, other))
    if min(len(own), len(other)) < FEWEST:
        return {}
    features, is_other = np.concatenate([own, other]), np.repeat([0, 1], [len(own), len(other)])
    scaler = StandardScaler().fit(own)
    classifier = make_pipeline(scaler, LogisticRegression(C=0.01, class_weight="balanced", max_iter=200))
    told = cross_val_predict(classifier, features, is_other, cv=5, method="decision_function")
    scaled = [scaler.transform(part) for part in (own, other)]
    among = neighbour_distance(scaled[0], scaled[0], 2).mean()  # the first is the face itself
    nearest = neighbour_distance(*scaled, 1)
    options = {"resamples": resamples, "seed": seed}
    return {
        "auc": statistics.bootstrap(metrics.auc, is_other, told, **options),
        "distance": statistics.bootstrap(lambda far: float(np.mean(far) / among), nearest, **options),
    }


def _groups(frame: pd.DataFrame, resamples: int, seed: int, min_rows: int) -> pd.DataFrame:
    """The group tables of notebook 05 below each other, of groupings whose labels are known."""
    tables = []
    for by in evaluation.groupings(frame):
        table = evaluation.group_table(frame, by, resamples, seed, min_rows)
        tables.append(table.astype({"age_band": str} if "age_band" in by else {}).assign(grouping=" x ".join(by)))
    if not tables:
        return pd.DataFrame(columns=["grouping", "n"])
    joined = pd.concat(tables, ignore_index=True)
    first = ["grouping", *(name for name in ("age_band", "gender_name", "ethnicity_name") if name in joined), "n"]
    return joined[[*first, *(name for name in joined if name not in first)]]


def evaluate_table(run: RunFolder, data: str, images: str, out: Path, search_faces: bool = True) -> Iterator[str]:
    """Evaluate a run's predictor on another data set into a folder; yields a line per finding.

    The images have to be cropped as the run's are, since no face is cut out. One row per group of copies counts, as in
    notebook 05.

    Parameters
    ----------
    run : RunFolder
        Finished as far as notebook 05 for its own numbers beside the others; notebook 03 is enough.
    data, images : str
        See `facelib.data.read_faces`; any label column may be missing.
    out : Path
        Folder for results.json, shift, groups, predictions, copies and rejected .csv.
    search_faces : bool
        Search every image for a frontal face.

    Raises
    ------
    UnreadableData
        If the data or the folder cannot be used, or the data have no label at all.
    MissingFromRun
        If the run has no predictor yet.
    """
    if out.exists() and not out.is_dir():
        raise UnreadableData(f"--out {out} is a file: give a folder")
    check_writable(out)  # before the work
    predictor = load_predictor(run.path)
    own, split = run.load_table("faces"), run.load_table("splits")
    pictures, faces, rejected = cache_faces(read_faces(data, images or None), predictor.image_px, cache_root())
    yield f"faces: {len(faces):,}, rejected: {len(rejected):,}"
    banded = "age_from" in faces
    learned = predictor.learned
    known = [name for name in labelled(faces) if name in learned]
    if not known and not (banded and "age" in learned):
        raise UnreadableData(f"{data} has no label of {', '.join(learned)}: there is nothing to compare with")
    if unlearned := ", ".join(name for name in labelled(faces) if name not in learned):
        yield f"the run did not learn {unlearned}: nothing is measured of them"
    if absent := ", ".join(name for name in learned if name not in known):
        bands = " but age bands" if banded and "age" not in known else ""
        yield f"no labels of {absent}: nothing is measured of them{bands}"
    if run.is_synthetic:
        yield "the run learned from drawn faces: of photographs its numbers say nothing"

    seen = (split["split"] != "test").to_numpy()
    own_images = load_images(run, own).take(np.flatnonzero(seen))
    group_id, copied = find_copied(own[seen], own_images, faces, pictures)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in copied["kind"].value_counts().items())
    yield f"images with a copy among those the run learned from: {len(copied):,} of {len(faces):,} ({kinds or 'none'})"

    outputs = predict_outputs(predictor.network, pictures)
    predictions = pd.concat([faces[["image_id"]], predictor.judge(outputs, pictures)], axis=1)
    kept = keep_one(faces, group_id)
    rows = pd.DataFrame({"image_id": faces["image_id"], "split": "test", "group_id": group_id, "kept": kept})
    frame = evaluation.evaluation_frame(faces, rows, predictions, ("test",))
    options = {"resamples": run.profile.resamples, "seed": run.profile.seed}

    results = _measured(frame, "transfer", options)
    if len(copied):
        # All members of a group, whichever of them is nearest to the run's image.
        theirs = set(group_id[faces["image_id"].isin(copied["image_id"])])
        results |= _measured(frame[~frame["group_id"].isin(theirs)], "transfer_unseen", options)
    scored = score_quality(faces, pictures, search_faces)
    shift = pd.concat([label_mix(own[seen], faces), quality_shift(run.load_table("quality"), scored)])
    held = split["split"].isin(["validation", "calibration"]) & split["kept"]
    apart = embedding_shift(run.load_array("embeddings")[held], outputs["features"][kept].astype(np.float16), **options)
    results |= {f"shift.embedding.{name}": estimate for name, estimate in apart.items()}

    out.mkdir(parents=True, exist_ok=True)
    about = {"run": run.name, "data": str(Path(data).resolve()), "commit": run.params["commit"], "labels": known}
    write_json(out / "results.json", {"about": about, "results": results})
    groups = _groups(frame, **options, min_rows=run.profile.min_group)
    said = predictions.assign(age_pred=metrics.whole_years(predictions["age_pred"]), group_id=group_id, kept=kept)
    tables = {"shift": shift, "groups": groups, "copies": copied, "rejected": rejected, "predictions": said}
    for name, table in tables.items():
        write_csv(table, out / f"{name}.csv")
    yield from _summary(results, run.results(), shift)
    yield f"written: {out}"


def _measured(frame: pd.DataFrame, prefix: str, options: dict) -> dict[str, Estimate]:
    """All metrics of a frame that have a row to be measured on."""
    found = evaluation.headline_metrics(frame, prefix, **options) | band_metrics(frame, prefix, **options)
    return {key: estimate for key, estimate in found.items() if estimate.n}


def _summary(results: dict[str, Estimate], own: dict[str, dict], shift: pd.DataFrame) -> Iterator[str]:
    """The results as a short table: each metric here, and on the run's own test split."""
    yield f"{'metric':<34}{'here, 95 %':<36}{'n':>8}   the run's own test"
    for key, estimate in results.items():
        test, _, metric = key.partition(".")
        before = own.get(f"test.{metric}")
        shown = statistics.format_value(before["value"], before["unit"]) if before and before["value"] is not None else ""
        name = f"{metric}, without copies" if test == "transfer_unseen" else key if test == "shift" else metric
        yield f"{name:<34}{estimate!s:<36}{estimate.n:>8,}   {shown}".rstrip()
    for topic, rows in shift.groupby("topic", sort=False):
        far = rows.loc[(rows["run"] - rows["table"]).abs().idxmax()]
        said = f"{far['measure']} {far['run']:.2f} in the run, {far['table']:.2f} here"
        yield f"shift of {topic}: {rows['distance'].max():.2f} of 1 (most: {said})"
