"""The data of the report's explorer: every held-out prediction, and metrics by group, as JSON for its script."""

import json

import numpy as np
import pandas as pd
from PIL import Image

from facelib.audit.quality import flag_names
from facelib.data.ingest import load_images
from facelib.evaluation.groups import group_metrics
from facelib.evaluation.headline import run_frame
from facelib.plots.style import class_colours, may_show
from facelib.reporting.inline import jpeg_uri
from facelib.runs import RunFolder
from facelib.schema import AGE, class_attributes
from facelib.statistics import SHARE

HELD_OUT = ("test", "validation", "calibration")  # training faces are predicted too well
SHOWN_FACES, FACE_PX, COLUMNS = 1000, 48, 40  # the largest errors have pictures, where faces may be shown


def explorer(run: RunFolder, show_faces: bool = False) -> dict:
    """`points` and `groups` for the explorer's script; each is missing where the run has not measured it."""
    found = {"points": _points(run, show_faces), "groups": _groups(run)}
    return {name: data for name, data in found.items() if data}


def as_json(data: dict) -> str:
    """Data for a page: no name in it can end the element that holds it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _rounded(values: pd.Series, digits: int = 0) -> list:
    """Numbers for JSON, whole ones without a point; None where missing."""
    return [None if np.isnan(v) else int(v) if digits == 0 else round(float(v), digits) for v in values.round(digits)]


def _factor(title: str, groups: pd.Series, colours: dict[str, str] | None = None) -> dict:
    """What the faces can be filtered and coloured by: a code for each face, -1 where it has no group."""
    groups = groups.astype("category").cat.remove_unused_categories()
    names = [str(name) for name in groups.cat.categories]
    chosen = [(colours or {}).get(name, "") for name in names]
    return {"title": title, "names": names, "codes": groups.cat.codes.tolist(), "colours": chosen}


def _points(run: RunFolder, show_faces: bool) -> dict | None:
    """A point for each held-out face that is labelled with an age: labels, predictions, interval and factors."""
    if AGE not in run.learned or not run.details("05_evaluate") or not run.table_path("predictions").exists():
        return None
    frame = run_frame(run, HELD_OUT, stages=False).merge(run.load_table("splits")[["image_id", "split"]], on="image_id")
    frame = frame.dropna(subset=[AGE.name, AGE.prediction]).reset_index(drop=True)
    by_class = [attribute for attribute in class_attributes(run.attributes) if attribute in run.learned]
    factors = [_factor("Split", pd.Series(pd.Categorical(frame["split"], HELD_OUT)))]
    for attribute in by_class:
        factors.append(_factor(attribute.title, frame[attribute.group_column], class_colours(attribute)))
        right = (frame[attribute.name] == frame[attribute.prediction]).map({True: "as labelled", False: "otherwise"})
        factors.append(_factor(f"{attribute.title} predicted", right.where(frame[attribute.name].notna())))
    if run.table_path("quality").exists():
        quality = run.load_table("quality").set_index("image_id").reindex(frame["image_id"])
        flags = [np.where(quality[flag].eq(True), name, "") for flag, name in flag_names(quality).items()]
        first = pd.DataFrame(flags).T.replace("", np.nan).bfill(axis=1)[0].fillna("no flag") if flags else None
        factors += [_factor("Quality", first)] if flags else []
    if run.table_path("error_clusters").exists():
        clusters = run.load_table("error_clusters").set_index("image_id")["cluster"].reindex(frame["image_id"])
        named = clusters.map(lambda number: "in no cluster" if number < 0 else f"cluster {number:.0f}", "ignore")
        factors.append(_factor("Error cluster", named.reset_index(drop=True)))
    _, _, low, high = AGE.columns
    points = {"image": frame["image_id"].tolist(), "x": _rounded(frame[AGE.name]), "factors": factors}
    points |= {"y": _rounded(frame[AGE.prediction]), "low": _rounded(frame[low]), "high": _rounded(frame[high])}
    points["classes"] = [
        {
            "title": attribute.title,
            "names": attribute.classes,
            "label": _rounded(frame[attribute.name]),
            "predicted": _rounded(frame[attribute.prediction]),
            "p": _rounded(frame[list(attribute.columns)].max(axis=1), 2),
        }
        for attribute in by_class
    ]
    return points | (_pictures(run, frame) if may_show(run, show_faces) else {})


def _pictures(run: RunFolder, frame: pd.DataFrame) -> dict:
    """One picture of the faces with the largest errors, side by side, and the place of each face in it, or -1."""
    faces = run.load_table("faces")
    error = (frame[AGE.prediction] - frame[AGE.name]).abs()
    worst = error.sort_values(ascending=False, kind="stable").index[:SHOWN_FACES]
    images = load_images(run, faces)[pd.Index(faces["image_id"]).get_indexer(frame.loc[worst, "image_id"])]
    sheet = Image.new("RGB", (COLUMNS * FACE_PX, -(-len(worst) // COLUMNS) * FACE_PX))
    for number, image in enumerate(images):
        place = number % COLUMNS * FACE_PX, number // COLUMNS * FACE_PX
        sheet.paste(Image.fromarray(image).resize((FACE_PX, FACE_PX)), place)
    places = pd.Series(range(len(worst)), index=worst).reindex(frame.index, fill_value=-1).tolist()
    return {"faces": {"sheet": jpeg_uri(sheet), "px": FACE_PX, "columns": COLUMNS, "places": places}}


def _groups(run: RunFolder) -> dict | None:
    """Each metric of each group and pair of groups, as value, low and high, and each group's n."""
    stored, titles = run.details("06_groups").get("groups", {}), {a.group_column: a.title for a in run.attributes}
    measured = {key for rows in stored.values() for row in rows for key in row}
    metrics, tables = [metric for metric in group_metrics(run.learned) if metric.key in measured], []
    for name, rows in stored.items():
        columns = name.split(" x ")
        tables.append(
            {
                "title": " and ".join(titles.get(column, column).lower() for column in columns).capitalize(),
                "names": [", ".join(str(row[column]) for column in columns) for row in rows],
                "n": [row["n"] for row in rows],
                "values": {
                    metric.key: [[row.get(f"{metric.key}{end}") for end in ("", "_low", "_high")] for row in rows]
                    for metric in metrics
                },
            }
        )
    shares = [{"key": m.key, "title": m.title, "percent": m.unit == SHARE, "unit": m.unit} for m in metrics]
    return {"metrics": shares, "tables": tables} if tables else None
