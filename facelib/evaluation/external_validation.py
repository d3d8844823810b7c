"""External validation: a trained run on another data set, beside how far the two data sets lie apart."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facelib import metrics
from facelib.audit.duplicates import find_copies, group_copies
from facelib.audit.leaks import leaks_table
from facelib.audit.quality import score_quality
from facelib.data.dlib_files import WeightsError
from facelib.data.ingest import load_images, read_data_set
from facelib.data.label_maps import KNOWN
from facelib.data.pixels import FaceImages, cache_faces, resize
from facelib.data.splits import representatives
from facelib.embedding.features import embed_faces, load_embedding
from facelib.errors import UnreadableData
from facelib.evaluation.groups import group_tables, stacked
from facelib.evaluation.headline import evaluation_frame, headline_metrics, inverted_findings
from facelib.finding import listed
from facelib.formats import write_csv, write_json
from facelib.prediction.predictor import Predictor
from facelib.runs import DataSet, RunFolder, cache_root
from facelib.schema import AGE, Attribute, class_attributes, labelled
from facelib.statistics import Bootstrap, Estimate, rate
from facelib.storage import check_writable

COMPARED_PX = 64  # edge at which images of the two data sets are compared for copies, pixels
FEWEST, MOST = 10, 2000  # faces of either data set between which embeddings are compared
# Scores that mean the same in any data set; framing is relative to each.
QUALITY = ("dark", "bright", "contrast", "blur", "grey", "border", "tiny", "face")
SHIFT = ["topic", "measure", "run", "table", "distance"]  # columns; run and table are the two data sets' numbers


@dataclass(frozen=True)
class FaceData:
    """One of two data sets that are compared; `quality` are its scores.

    `features` (m, 256) are the face network's, of the run's validation and calibration faces; None without it.
    """

    faces: pd.DataFrame
    images: FaceImages
    quality: pd.DataFrame
    features: np.ndarray | None


def find_copied(own: FaceData, other: FaceData) -> tuple[np.ndarray, pd.DataFrame]:
    """Copy group of each face of another data set, and its faces with a copy in the run; see `leaks.leaks_table`.

    Near copies are distinguished from lookalikes from about 48 pixels on; below, a few lookalikes are among them.
    """
    px = min(COMPARED_PX, own.images.px, other.images.px)
    resized = [resize(images, px) for images in (own.images, other.images)]
    pixels = np.concatenate([images[np.arange(len(images))] for images in resized])
    joined = pd.concat([own.faces, other.faces], ignore_index=True)
    pairs = find_copies(joined, FaceImages(pixels, np.arange(len(pixels))))
    group_id = group_copies(len(joined), pairs)
    part = pd.Series(np.where(np.arange(len(joined)) < len(own.faces), "train", "test"))
    leaks = leaks_table(joined, part, group_id, pairs)
    return group_id[len(own.faces) :], leaks.rename(columns={"test_image": "image_id", "train_image": "copy_in_run"})


def comparable(known: Iterable[Attribute], learned: Iterable[Attribute]) -> tuple[Attribute, ...]:
    """Those attributes of a data set that a run learned, too: of the same name and classes; ages also by bands alone.

    Examples
    --------
    >>> from dataclasses import replace
    >>> comparable([replace(AGE, bands=((20, 29),))], [AGE])[0].group_names
    ('20-29',)
    """
    form = {attribute.name: {**attribute.to_dict(), "bands": None} for attribute in learned}
    return tuple(a for a in known if form.get(a.name) == {**a.to_dict(), "bands": None})


def label_shift(own: pd.DataFrame, other: pd.DataFrame, attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Share of each label in two faces tables, unknown labels left out; of attributes that both know.

    Columns `SHIFT`; distance is half the sum of the absolute differences of an attribute's shares (total variation:
    0 equal, 1 disjoint), the same in all rows of the attribute. Where one knows ages by bands alone, both are divided
    into these.
    """
    rows, known = [], {attribute.name: attribute for attribute in labelled(own, attributes)}
    for attribute in (a for a in labelled(other, attributes) if a.name in known):
        by = known[attribute.name] if attribute.exact else attribute
        groups = (by.groups_of(faces) for faces in (own, other))
        shares = pd.concat([group.value_counts(normalize=True, sort=False) for group in groups], axis=1)
        distance = shares.diff(axis=1).iloc[:, 1].abs().sum() / 2
        for label, pair in zip(shares.index, shares.to_numpy(), strict=True):
            rows.append((f"labels: {attribute.name}", f"share of {label}", *pair, distance))
    return pd.DataFrame(rows, columns=SHIFT)


def quality_shift(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Medians of the quality scores of two data sets (of `face` the share in which one was found).

    Columns `SHIFT`; distance is the largest gap between the two cumulative distributions (Kolmogorov-Smirnov: 0 equal,
    1 disjoint).
    """
    rows = []
    for name in (name for name in QUALITY if name in own and name in other):
        centre, what = np.median, f"median score: {name}"
        if name == "face":
            centre, what = np.mean, "share with a face found"
        distance = stats.ks_2samp(own[name], other[name], method="asymp").statistic
        rows.append(("quality", what, centre(own[name]), centre(other[name]), distance))
    return pd.DataFrame(rows, columns=SHIFT)


def neighbour_distance(reference: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """Euclidean distance of each point (m, width) to the k-th nearest of the reference (n, width): shape (m,)."""
    return NearestNeighbors(n_neighbors=k).fit(reference).kneighbors(points)[0][:, -1]


def embedding_shift(own: np.ndarray, other: np.ndarray, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """How far the features (n, width) and (m, width) of two data sets lie apart; empty with too few faces.

    auc: how well a linear classifier separates the two on held-out faces (0.5 not at all, 1 without error; Lopez-Paz
    and Oquab, Revisiting classifier two-sample tests, 2017). distance: the mean distance of the other faces to the
    nearest own one, in units of the same between the own ones (1: no farther than among themselves).
    """
    rng = np.random.default_rng(bootstrap.seed)
    own, other = (part[rng.permutation(len(part))[:MOST]].astype(float) for part in (own, other))
    if min(len(own), len(other)) < FEWEST:
        return {}
    features, is_other = np.concatenate([own, other]), np.repeat([0, 1], [len(own), len(other)])
    scaler = StandardScaler().fit(own)
    classifier = make_pipeline(scaler, LogisticRegression(C=0.01, class_weight="balanced", max_iter=200))
    score = cross_val_predict(classifier, features, is_other, cv=5, method="decision_function")
    scaled = [scaler.transform(part) for part in (own, other)]
    among = neighbour_distance(scaled[0], scaled[0], 2).mean()  # the first is the face itself
    distances = neighbour_distance(*scaled, 1)
    return {
        "auc": bootstrap(metrics.auc, is_other, score),
        "distance": bootstrap(lambda nearest: float(np.mean(nearest) / among), distances),
    }


def compare(
    own: FaceData, other: FaceData, predictions: pd.DataFrame, attributes: tuple[Attribute, ...], bootstrap: Bootstrap,
    min_group: int,
) -> tuple[dict[str, Estimate], dict[str, pd.DataFrame]]:  # fmt: skip
    """Metrics of a `Predictor`'s predictions of the other faces, in their order, and the shift between the data sets.

    One row per group of copies counts. The metrics are transfer.*; transfer_unseen.* without copies of the run's faces,
    where there are any; and shift.embedding.*. The tables are shift, groups, copies and predictions.
    """
    faces, (group_id, copied) = other.faces, find_copied(own, other)
    representative = representatives(faces, group_id)
    rows = pd.DataFrame({"image_id": faces["image_id"], "group_id": group_id, "representative": representative})
    predicted = rows[["image_id"]].join(predictions)
    frame = evaluation_frame(faces, rows.assign(split="test"), predicted, ("test",), attributes)
    results = _measured(frame, attributes, "transfer", bootstrap)
    if len(copied):
        unseen = frame[~frame["image_id"].isin(copied["image_id"])]  # all members of a group are listed as copied
        results |= _measured(unseen, attributes, "transfer_unseen", bootstrap)
    if own.features is not None and other.features is not None:
        shift = embedding_shift(own.features, other.features[representative], bootstrap)
        results |= {f"shift.embedding.{name}": estimate for name, estimate in shift.items()}
        results["shift.out_of_distribution"] = rate(predictions["out_of_distribution"].sum(), len(predictions))
    if any(attribute.kind == AGE.kind for attribute in attributes):
        predicted = predicted.assign(age_pred=metrics.whole_years(predicted["age_pred"]))
    tables = {
        "shift": pd.concat([label_shift(own.faces, faces, attributes), quality_shift(own.quality, other.quality)]),
        "groups": stacked(group_tables(frame, attributes, bootstrap, min_group)),
        "copies": copied,
        "predictions": predicted.join(rows[["group_id", "representative"]]),
    }
    return results, tables


def _measured(frame: pd.DataFrame, attributes, prefix: str, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """All metrics of a frame that have a row to be measured on."""
    results = headline_metrics(frame, attributes, prefix, bootstrap)
    return {key: estimate for key, estimate in results.items() if estimate.n}


def evaluate_table(
    run: RunFolder, data: DataSet, out: Path, search_faces: bool = False, align: bool = False
) -> Iterator[str]:
    """Evaluate a run's predictor on another data set into a folder; yields lines to print.

    Takes data as `ingest.read_data_set` does, with any labels, cropped as the run's are, by their boxes, or with
    `align` by the largest face that is found. Columns named for attributes that the run learned are read with its
    classes. With `search_faces` every image is searched for a frontal face. Writes results.json, and shift, groups,
    predictions, copies, rejected and unusable_labels .csv. Once the run has notebook 05, its own numbers are printed
    beside the others.

    Raises
    ------
    UnreadableData
        If the data or the folder cannot be used, or the data have no label that the run learned.
    MissingFromRun
        If the run has no predictor yet.
    """
    if out.exists() and not out.is_dir():
        raise UnreadableData(f"--out {out} is a file: give a folder")
    check_writable(out)  # before the work
    predictor = Predictor.load(run)
    source = read_data_set(data, (a for a in class_attributes(predictor.attributes) if a.name not in KNOWN))
    yield from source.about()
    pictures, faces, rejected = cache_faces(source, predictor.image_px, cache_root(), align)
    yield f"faces: {len(faces):,}, rejected: {len(rejected):,}"
    known, learned = labelled(faces, source.attributes), predictor.attributes
    attributes = comparable(known, learned)
    yield from _notes(run, data.path, known, learned, attributes)
    try:
        features = embed_faces(faces, lambda: source, cache_root()).features
        own = _own_data(run)
    except WeightsError as error:
        yield f"not measured: shift.embedding and faces out of distribution, since {error}"
        features, own = None, _own_data(run, embedded=False)
    other = FaceData(faces, pictures, score_quality(faces, pictures, search_faces), features)
    predictions = predictor.predictions(predictor.outputs(pictures), pictures, features)
    settings = run.bootstrap, run.settings.evaluation.min_group
    results, tables = compare(own, other, predictions, attributes, *settings)
    about = {"run": run.name, "data": data.path, "commit": run.params["commit"]}
    about["labels"] = [attribute.name for attribute in attributes]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", {"about": about, "results": results})
    for name, table in (tables | {"rejected": rejected, "unusable_labels": source.unusable}).items():
        write_csv(table, out / f"{name}.csv")
    yield from map(str, inverted_findings(results, attributes, "transfer"))
    yield from _summary(results, run.results(), tables, len(faces))
    yield f"written: {out}"


def _own_data(run: RunFolder, embedded: bool = True) -> FaceData:
    """The faces that a run was trained on, and features of those that it was not trained on, if they are `embedded`."""
    faces, split = run.load_table("faces"), run.load_table("splits")
    seen = (split["split"] != "test").to_numpy()
    images = load_images(run, faces).take(np.flatnonzero(seen))
    held = split["split"].isin(["validation", "calibration"]) & split["representative"]
    features = load_embedding(run, faces).features[held] if embedded else None
    return FaceData(faces[seen], images, run.load_table("quality"), features)


def _notes(run: RunFolder, data: str, known, learned, measured) -> Iterator[str]:
    """What is not measured, and why; raises where nothing is."""
    if not measured:
        names = ", ".join(attribute.name for attribute in learned)
        raise UnreadableData(f"{data} has no label of {names}: there is nothing to compare with")
    if unlearned := [attribute.name for attribute in known if attribute not in measured]:
        yield f"not measured, since the run did not learn it: {listed(unlearned)}"
    names = [attribute.name for attribute in measured]
    if absent := [attribute.name for attribute in learned if attribute.name not in names]:
        yield f"not measured, since no face is labelled with it: {listed(absent)}"
    if bands := [attribute.name for attribute in measured if not attribute.exact]:
        yield f"measured by its bands: {listed(bands)}"
    if run.is_synthetic:
        yield "the run was trained on drawn faces: its numbers are meaningless for photographs"


def _summary(results: dict[str, Estimate], own: dict[str, Estimate], tables: dict, n: int) -> Iterator[str]:
    """The results as a short table: each metric here, and on the run's own test split."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in tables["copies"]["kind"].value_counts().items()) or "none"
    yield f"images with a copy among the run's training images: {len(tables['copies']):,} of {n:,} ({kinds})"
    yield f"{'metric':<34}{'here, 95 %':<36}{'n':>8}   the run's own test"
    for key, estimate in results.items():
        test, _, metric = key.partition(".")
        name = {"transfer_unseen": f"{metric}, without copies", "shift": key}.get(test, metric)
        before = own[f"test.{metric}"].text if f"test.{metric}" in own else ""
        yield f"{name:<34}{estimate!s:<36}{estimate.n:>8,}   {before}".rstrip()
    for topic, rows in tables["shift"].groupby("topic", sort=False):
        far = rows.loc[(rows["run"] - rows["table"]).abs().idxmax()]
        most = f"{far['measure']} {far['run']:.2f} in the run, {far['table']:.2f} here"
        yield f"shift of {topic}: {rows['distance'].max():.2f} of 1 (most: {most})"
