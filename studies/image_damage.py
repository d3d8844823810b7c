"""How errors grow with damage to the image, and for whom: blur, JPEG, light, resolution, covered parts of the face.

Validation faces of a run are damaged after they are aligned, and predicted by its predictor: the test split takes no
part. Changes are against the same faces undamaged. Writes reports/robustness: images.csv, README.md and a figure.

usage: python -m studies.image_damage RUN [--most 1000] [--out DIR]
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from facelib.data.ingest import load_images
from facelib.evaluation import groups
from facelib.evaluation.headline import evaluation_frame
from facelib.evaluation.misalignment import sample_faces
from facelib.explain.regions import REGIONS, region_map
from facelib.formats import write_csv
from facelib.plots.style import class_colours, finish, new_figure, title, use_style
from facelib.prediction import Predictor
from facelib.runs import RunFolder, open_run
from facelib.schema import Attribute
from facelib.statistics import SHARE, Bootstrap, adjusted
from facelib.storage import write_text
from studies.pages import interval, table

RESULTS = Path("reports/robustness")
FEWEST = 20  # faces of a group that is compared
COVERED = {"eyes": ("eyes_brows",), "mouth": ("mouth",), "forehead": ("forehead", "hair")}
OPENING = """# Damaged images

Made by `python -m studies.image_damage {run} --most {most}`: {n:,} validation faces of run `{run}`, damaged as aligned
crops of {px} px. The recipe and the way to predict age were chosen on such faces, so the first row is slightly
optimistic. Errors are against the labels as given; intervals are 95 %.

![Errors by kind and amount of damage](damage.svg)

## All faces
{all}
## Which groups are affected most

The strongest damage of each kind: the groups whose measure becomes worse by most and by least, among groups of
{fewest} and more, and p for a difference among the groups (permutation of the change, adjusted for all rows).
{worst}"""


@dataclass(frozen=True)
class Damage:
    """One way to spoil aligned faces: its amounts from none to most, and what an amount is."""

    label: str
    amounts: tuple
    spoil: Callable[[Image.Image, object], Image.Image]


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _coarse(image: Image.Image, px: int) -> Image.Image:
    return image.resize((px, px), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def _lit(image: Image.Image, gain: float) -> Image.Image:
    return Image.fromarray((np.asarray(image, float) * gain).clip(0, 255).round().astype(np.uint8))


def _covered(image: Image.Image, part: str) -> Image.Image:
    """The region as it lies in an average aligned face, filled with the image's mean colour."""
    pixels = np.array(image)
    hidden = np.isin(region_map(image.width), [REGIONS.index(name) for name in COVERED[part]])
    pixels[hidden] = pixels.mean(axis=(0, 1))
    return Image.fromarray(pixels)


DAMAGES = {
    "blur": Damage("SD, % of the edge", (0.5, 1.0, 2.0, 4.0),
                   lambda image, share: image.filter(ImageFilter.GaussianBlur(share / 100 * image.width))),
    "JPEG": Damage("quality", (60, 30, 15, 5), _jpeg),
    "dark": Damage("brightness", (0.5, 0.25, 0.12), _lit),
    "bright": Damage("brightness", (1.5, 2.0, 3.0), _lit),
    "resolution": Damage("edge, pixels", (48, 32, 24, 16), _coarse),
    "covered": Damage("part of the face", tuple(COVERED), _covered),
}  # fmt: skip


def damage(images: np.ndarray, kind: str, amount) -> np.ndarray:
    """Aligned faces uint8 (n, px, px, 3), each spoilt."""
    spoil = DAMAGES[kind].spoil
    return np.stack([np.asarray(spoil(Image.fromarray(image), amount)) for image in images])


def changes(
    frame: pd.DataFrame,
    before: pd.DataFrame,
    kind: str,
    amount,
    attributes: tuple[Attribute, ...],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Means of each group metric on damaged faces and their change, over all and by group.

    Both evaluation frames have the same rows. Columns: kind, amount, metric, by (`all` or a group column), group, n,
    value, change (each with _low and _high), p (of no difference among the groups of `by`; nan for all).
    """
    rows = []
    for attribute in attributes:
        known = frame[attribute.name].notna() & frame[attribute.prediction].notna()
        metrics = groups.group_metrics([attribute])
        values, old = (groups.row_values(one[known], metrics) for one in (frame, before))
        for metric in metrics:
            moved = values[metric.key] - old[metric.key]
            for by in ("all", *(a.group_column for a in attributes)):
                names = pd.Series("all", moved.index) if by == "all" else frame.loc[known, by].astype(object)
                sizes = names.value_counts()
                names = names[names.isin(sizes.index[sizes >= FEWEST])]
                p = np.nan if by == "all" else permuted(moved[names.index], names, bootstrap)
                for group, part in names.groupby(names):
                    row = {"kind": kind, "amount": amount, "metric": metric.key, "by": by, "group": group, "p": p}
                    row |= bootstrap(np.mean, values.loc[part.index, metric.key]).columns("value")
                    rows.append(row | bootstrap(np.mean, moved[part.index]).columns("change") | {"n": len(part)})
    return pd.DataFrame(rows)


def permuted(values: pd.Series, names: pd.Series, bootstrap: Bootstrap) -> float:
    """How often shuffled groups vary as much in their means as these groups, weighted by their sizes: a p value."""
    codes, numbers = pd.factorize(names)[0], values.to_numpy(float)
    sizes, rng = np.bincount(codes), np.random.default_rng(bootstrap.seed)
    if len(sizes) < 2 or np.ptp(numbers) == 0:
        return float("nan")

    def between(shuffled: np.ndarray) -> float:
        means = np.bincount(codes, shuffled) / sizes
        return float((sizes * (means - numbers.mean()) ** 2).sum())

    observed = between(numbers)
    draws = [between(rng.permutation(numbers)) for _ in range(bootstrap.resamples)]
    return (1 + sum(draw >= observed - 1e-12 for draw in draws)) / (1 + len(draws))


def study(run: RunFolder, most: int) -> tuple[pd.DataFrame, int]:
    """`changes` by every damage, on `most` validation faces or fewer, and their number."""
    attributes = tuple(a for a in run.learned if getattr(a, "exact", True))
    rows = sample_faces(run, attributes, most)
    faces, splits = (run.load_table(name).iloc[rows].reset_index(drop=True) for name in ("faces", "splits"))
    images, predictor = load_images(run, run.load_table("faces"))[rows], Predictor.load(run)

    def frame_of(pixels: np.ndarray) -> pd.DataFrame:
        predicted = faces[["image_id"]].join(predictor(pixels))
        return evaluation_frame(faces, splits, predicted, ("validation",), attributes)

    before, tables = frame_of(images), []
    tables.append(changes(before, before, "none", "none", attributes, run.bootstrap))
    for kind, way in DAMAGES.items():
        for amount in way.amounts:
            frame = frame_of(damage(images, kind, amount))
            tables.append(changes(frame, before, kind, amount, attributes, run.bootstrap))
            print(f"{kind} {amount}", flush=True)
    found = pd.concat(tables, ignore_index=True)
    return found.assign(amount=found["amount"].astype(str)), len(rows)


def strongest(found: pd.DataFrame, metrics: dict[str, groups.GroupMetric]) -> pd.DataFrame:
    """The groups harmed most and least by the strongest damage of each kind, each covered part, in each grouping.

    Harm is the growth of an error in years, or the loss of a share that should be large. Columns: kind, amount, metric,
    by, most, most_change, least, least_change, p_adjusted.
    """
    rows = []
    for kind, way in DAMAGES.items():
        amounts = way.amounts if kind == "covered" else way.amounts[-1:]
        own = found[(found["kind"] == kind) & found["amount"].isin(map(str, amounts)) & (found["by"] != "all")]
        own = own[~own["metric"].str.endswith("_bias")]
        for (amount, metric, by), part in own.groupby(["amount", "metric", "by"], sort=False):
            harm = part["change"] * (-1 if metrics[metric].more_is_better else 1)
            most, least = part.loc[harm.idxmax()], part.loc[harm.idxmin()]
            rows.append({"kind": kind, "amount": amount, "metric": metric, "by": by.removesuffix("_name")})
            rows[-1] |= {"most": most["group"], "most_change": most["change"], "least": least["group"]}
            rows[-1] |= {"least_change": least["change"], "p_adjusted": part["p"].iloc[0]}
    ordered = pd.DataFrame(rows)
    return ordered.assign(p_adjusted=adjusted(ordered["p_adjusted"])) if rows else ordered


def curves(found: pd.DataFrame, attributes: tuple[Attribute, ...]):
    """A row a metric, a panel a kind: means of all faces, and of each group of the attribute's classes or bands."""
    metrics = [m for m in groups.group_metrics(attributes) if not m.key.endswith("_bias")]
    figure, axes = new_figure(len(DAMAGES), len(metrics), width=15, height=2.8, sharey="row")
    for row, metric in zip(axes, metrics, strict=True):
        names_of = metric.attribute.group_names
        by_band = dict(zip(names_of, mpl.colormaps["viridis"](np.linspace(0, 0.9, len(names_of))), strict=True))
        colours = class_colours(metric.attribute) if metric.attribute.kind == "classes" else by_band
        for axis, (kind, way) in zip(row, DAMAGES.items(), strict=True):
            names = ["none", *map(str, way.amounts)]
            part = found[(found["metric"] == metric.key) & found["kind"].isin(["none", kind])]
            part = part[part["by"].isin(["all", metric.attribute.group_column])]
            for group in (name for name in ("all", *names_of) if name in set(part["group"])):
                own = part[part["group"] == group].set_index("amount").reindex(names)
                look = {"color": "black", "linewidth": 2} if group == "all" else {"color": colours[group]}
                axis.plot(names, own["value"], "o-", markersize=3, label=group, **look)
            axis.set(title=kind, xlabel=way.label)
            axis.tick_params(axis="x", labelsize=8)
        row[0].set_ylabel(fill(metric.title + ("" if metric.unit == SHARE else " (years)"), 20))
        row[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    title(figure, "Errors of the same faces by damage")
    return finish(figure)


def page(run: RunFolder, found: pd.DataFrame, n: int, most: int, px: int) -> str:
    """The page, from `study`."""
    everyone = found[(found["by"] == "all") & ~found["metric"].str.endswith("_bias")]
    metrics = {metric.key: metric for metric in groups.group_metrics(run.learned)}
    names = [name for name in metrics if name in set(everyone["metric"])]
    forms = {name: ".1%" if metrics[name].unit == SHARE else ".2f" for name in names}
    rows = []
    for (kind, amount), part in everyone.groupby(["kind", "amount"], sort=False):
        of = part.set_index("metric")[["value", "value_low", "value_high"]]
        of = of.set_axis(["value", "low", "high"], axis=1).to_dict("index")
        named = f"{kind} ({DAMAGES[kind].label})" if kind in DAMAGES else kind
        rows.append([named, amount, *(interval(of[name], form) for name, form in forms.items())])
    worst = []
    for row in strongest(found, metrics).to_dict("records"):
        share = metrics[row["metric"]].unit == SHARE
        ends = (
            f"{row[end]} ({100 * row[f'{end}_change']:+.1f} points)" if share else
            f"{row[end]} ({row[f'{end}_change']:+.2f} y)" for end in ("most", "least")
        )  # fmt: skip
        by, p = row["by"].replace("_", " "), "" if np.isnan(row["p_adjusted"]) else f"{row['p_adjusted']:.3f}"
        worst.append([row["kind"], row["amount"], metrics[row["metric"]].title, by, *ends, p])
    titles = [metrics[name].title + ("" if metrics[name].unit == SHARE else " (years)") for name in names]
    return OPENING.format(
        run=run.name, most=most, n=n, px=px, fewest=FEWEST,
        all=table(["damage", "amount", *titles], rows),
        worst=table(["damage", "amount", "measure", "groups by", "affected most", "affected least", "p"], worst),
    )  # fmt: skip


def main() -> None:
    """Damage, predict, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    run = open_run(options.run)
    use_style()
    options.out.mkdir(parents=True, exist_ok=True)
    found, n = study(run, options.most)
    found = found.round(4)  # as images.csv holds it
    attributes = tuple(a for a in run.learned if getattr(a, "exact", True))
    curves(found, attributes).savefig(options.out / "damage.svg", metadata={"Date": None}, bbox_inches="tight")
    write_csv(found, options.out / "images.csv")
    write_text(options.out / "README.md", page(run, found, n, options.most, run.settings.data.image_px))


if __name__ == "__main__":
    main()
