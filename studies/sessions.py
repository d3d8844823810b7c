"""Where collection sessions end: gaps between times, agreement of labels by distance in time, what neighbours tell.

Writes reports/sessions: README.md, sessions.json and a figure.

usage: python -m studies.sessions UTKFACE [--out DIR]
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.data.readers import read_faces
from facelib.data.sessions import NEIGHBOURS, SESSION_GAP, nearest_in_time, seconds, sessions_of
from facelib.data.splits import deal_sessions
from facelib.formats import write_json
from facelib.plots.style import GREY, finish, new_figure, title, use_style
from facelib.schema import Attribute, ClassAttribute
from facelib.storage import write_text
from studies.pages import table

RESULTS = Path("reports/sessions")
FOLDS, DEALS, PAIRS = 5, 5, 40_000
DISTANCES = (0, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600, 14_400, 86_400, 1e9)  # edges, seconds
GAPS = (30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 14_400)  # seconds
OPENING = """# Where collection sessions end

Made by `python -m studies.sessions path/to/UTKFace` from the names of {n:,} files, which end in the time of collection.
A session ends where {minutes} minutes pass until the next image (`facelib/data/sessions.py`).

![Labels alike by distance in time, and what the time tells of held-out sessions](sessions.svg)

*Left:* how often two images have the same labels of classes, and ages within five years, by the time between them.
*Right:* age error of the median of the {k} images of *other* sessions nearest in time, by the gap that ends a session;
the dashed line is the error of one constant. Where sessions end early, images of the next session still tell the age.
{minutes} minutes is the shortest gap at which they tell the age no better than a constant does.

## Gaps between consecutive images
{gaps}
## Sessions by the gap that ends them

Whole sessions are assigned to {folds} folds; the {k} nearest images of other folds predict. Means over {deals}
assignments, which vary, since few sessions are large.
{sessions}
## Labels by distance in time
{alike}"""


def labels_alike(faces: pd.DataFrame, attributes: tuple[Attribute, ...], seed: int = 0) -> pd.DataFrame:
    """How often two images agree by the seconds between them: classes in all attributes at once, ages within 5 years.

    Columns: seconds (from), until, pairs, classes, years.
    """
    faces = faces[(faces["collected"] != "").to_numpy()]
    when = seconds(faces["collected"])
    order, rng, rows = np.argsort(when, kind="stable"), np.random.default_rng(seed), []
    faces, when = faces.iloc[order], when[order]
    classes = [faces[a.name].to_numpy() for a in attributes if isinstance(a, ClassAttribute)]
    years = [faces[a.name].to_numpy(float) for a in attributes if not isinstance(a, ClassAttribute)]
    for first, last in itertools.pairwise(DISTANCES):
        one = rng.integers(0, len(when), PAIRS)
        start, end = (np.searchsorted(when, when[one] + edge) for edge in (first, last))
        one, start, end = (values[end > start] for values in (one, start, end))
        other = start + rng.integers(0, end - start)
        one, other = one[one != other], other[one != other]
        same = np.all([values[one] == values[other] for values in classes], axis=0).mean() if classes else np.nan
        near = np.nanmean(np.abs(years[0][one] - years[0][other]) <= 5) if years else np.nan
        rows.append({"seconds": first, "until": last, "pairs": len(one), "classes": same, "years": near})
    return pd.DataFrame(rows)


def held_out_by_gap(faces: pd.DataFrame, attributes: tuple[Attribute, ...]) -> pd.DataFrame:
    """What the nearest times of other sessions predict, by the gap that ends a session.

    Columns: gap (seconds), sessions, largest (images), and `<attribute>`: mean error in years or share of classes
    right. The first row (gap 0) deals single images.
    """
    faces = faces[(faces["collected"] != "").to_numpy()].reset_index(drop=True)
    when, rows = seconds(faces["collected"]), []
    for gap in (0, *GAPS):
        session = sessions_of(faces["collected"], gap) if gap else faces["image_id"]
        row, named = {"gap": gap, "sessions": session.nunique()}, faces.assign(session=session)
        told = {attribute.name: [] for attribute in attributes}
        for seed in range(DEALS):
            alone = np.random.default_rng(seed).integers(0, FOLDS, len(faces))
            fold = deal_sessions(named, [1 / FOLDS] * FOLDS, attributes, seed, draws=1) if gap else alone
            for attribute in attributes:
                labels = faces[attribute.name].to_numpy(float)
                told[attribute.name].append(_told(labels, when, fold, attribute))
        means = {name: float(np.mean(values)) for name, values in told.items()}
        rows.append(row | {"largest": int(session.value_counts().max())} | means)
    return pd.DataFrame(rows)


def _told(labels: np.ndarray, when: np.ndarray, fold: np.ndarray, attribute: Attribute) -> float:
    """Error in years, or share of classes right, of predictions by the nearest known labels of other folds."""
    known, values = attribute.is_known(pd.Series(labels)), np.full(len(labels), np.nan)
    for number in np.unique(fold):
        learned, asked = np.flatnonzero(known & (fold != number)), np.flatnonzero(known & (fold == number))
        near = labels[learned[nearest_in_time(when[learned], when[asked])]]
        if isinstance(attribute, ClassAttribute):
            counts = (near[:, :, None] == np.arange(len(attribute.classes))).sum(axis=1)
            values[asked] = counts.argmax(axis=1) == labels[asked]
        else:
            values[asked] = np.abs(np.median(near, axis=1) - labels[asked])
    return float(np.nanmean(values))


def figure_of(alike: pd.DataFrame, sessions: pd.DataFrame, constant: float):
    """The figure of the page."""
    figure, axes = new_figure(2)
    at = np.sqrt(alike["seconds"].clip(lower=0.5) * alike["until"].clip(upper=1e6))
    for column, label in (("classes", "same classes"), ("years", "ages within 5 years")):
        axes[0, 0].plot(at, alike[column], "o-", label=label)
    axes[0, 0].set(xscale="log", xlabel="seconds between two images", ylabel="share of pairs", ylim=(0, 1))
    axes[0, 0].legend()
    by_gap = sessions[sessions["gap"] > 0]
    axes[0, 1].plot(by_gap["gap"], by_gap["age"], "o-")
    axes[0, 1].axhline(constant, color=GREY, linestyle="--", linewidth=1)
    axes[0, 1].axvline(SESSION_GAP, color=GREY, linewidth=1)
    axes[0, 1].set(xscale="log", xlabel="gap that ends a session, seconds", ylabel="age error, years", ylim=(0, None))
    for axis in axes[0]:
        axis.xaxis.set_major_formatter("{x:,g}")  # powers of ten are formulas, which the style shows as plain text
    title(figure, "Collection sessions")
    return finish(figure)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    source = read_faces(options.data)
    faces, attributes = source.faces.reset_index(drop=True), source.attributes
    if "collected" not in faces:
        raise SystemExit(f"{options.data}: the names of its files hold no times of collection")
    when = np.sort(seconds(faces["collected"]))
    gaps = pd.Series(np.diff(when[np.isfinite(when)]))
    shares = {f"over {edge:,} s": float((gaps > edge).mean()) for edge in (10, 60, 300, 600, 1200, 1800, 3600, 14_400)}
    alike, sessions = labels_alike(faces, attributes), held_out_by_gap(faces, attributes)
    constant = float((faces["age"] - faces["age"].median()).abs().mean())
    use_style()
    options.out.mkdir(parents=True, exist_ok=True)
    figure_of(alike, sessions, constant).savefig(options.out / "sessions.svg", metadata={"Date": None})
    stored = {"median_gap": float(gaps.median()), "gaps": shares, "alike": alike, "sessions": sessions}
    write_json(options.out / "sessions.json", stored | {"constant_age_error": constant})
    names = [attribute.name for attribute in attributes]
    by_gap = [
        [f"{row.gap:,}" if row.gap else "single images", f"{row.sessions:,}", f"{row.largest:,}",
         *(f"{getattr(row, a.name):.1%}" if isinstance(a, ClassAttribute) else f"{getattr(row, a.name):.2f} y"
           for a in attributes)]
        for row in sessions.itertuples()
    ]  # fmt: skip
    constants = [
        f"{(faces[a.name] == a.constant(faces[a.name][a.is_known(faces[a.name])])).mean():.1%}"
        if isinstance(a, ClassAttribute)
        else f"{constant:.2f} y"
        for a in attributes
    ]
    by_gap.append(["one constant", "", "", *constants])
    by_distance = [
        [f"{row.seconds:,} to {row.until:,.0f}" if row.until < 1e9 else f"over {row.seconds:,}", f"{row.classes:.1%}",
         f"{row.years:.1%}"]
        for row in alike.itertuples()
    ]  # fmt: skip
    text = OPENING.format(
        n=len(faces),
        minutes=SESSION_GAP // 60,
        k=NEIGHBOURS,
        folds=FOLDS,
        deals=DEALS,
        gaps=table(
            ["gap", "share"], [[f"median {gaps.median():.1f} s", ""], *([k, f"{v:.2%}"] for k, v in shares.items())]
        ),
        sessions=table(["gap, seconds", "sessions", "largest, images", *names], by_gap),
        alike=table(["seconds between", "same classes", "ages within 5 years"], by_distance),
    )
    write_text(options.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
