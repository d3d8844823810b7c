"""Recognised persons: how reliable they are, how many cross a split, and whether the model errs less on them.

A test face is *matched* if the face network recognises its person on another photograph of the training list, copies
left out. Its error in a published run is compared with that of the unmatched test faces of the same stratum (age band
and the classes that are not sensitive), weighted as the matched ones are. Writes reports/audit/persons.json.

usage: python -m studies.persons UTKFACE --run REPORT [--split FOLDER] [--out DIR]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit import duplicates
from facelib.audit.leaks import PERSON, leaks_table
from facelib.data.pixels import cache_faces
from facelib.data.protocols import read_protocol
from facelib.data.readers import read_faces
from facelib.data.splits import joined, stratum
from facelib.embedding.features import embed_faces
from facelib.embedding.persons import Pairs, find_persons, known_match_rate, match_rate
from facelib.formats import write_json
from facelib.runs import cache_root
from facelib.schema import Attribute, ClassAttribute
from facelib.statistics import Bootstrap, Estimate, rate
from studies import AUDIT_RESULTS


def errors_of(faces: pd.DataFrame, predicted: pd.DataFrame, attribute: Attribute) -> np.ndarray:
    """Absolute error in years, or 1 where the class is wrong; nan where the label is unknown."""
    decoded, known = attribute.decode(predicted).to_numpy(), attribute.is_known(faces[attribute.name])
    given = faces[attribute.name].to_numpy(float)
    error = (decoded != given).astype(float) if isinstance(attribute, ClassAttribute) else np.abs(decoded - given)
    return np.where(known, error, np.nan)


def excess(error: np.ndarray, matched: np.ndarray, strata: np.ndarray) -> float:
    """Mean error of the matched minus that of the others in the same strata, weighted as the matched ones are."""
    size = strata.max() + 1
    others = np.bincount(strata[~matched], minlength=size)
    usual = np.bincount(strata[~matched], error[~matched], size) / np.where(others, others, np.nan)
    return float(np.nanmean((error - usual[strata])[matched]))


def matched_errors(
    faces: pd.DataFrame, matched: np.ndarray, person_id: np.ndarray, predicted: pd.DataFrame, attributes: tuple
) -> dict[str, Estimate]:
    """`excess` of each attribute with its interval: negative where the model errs less on matched faces."""
    strata = pd.factorize(stratum(faces, [a for a in attributes if not a.sensitive]))[0]
    measured = {}
    for attribute in attributes:
        error = errors_of(faces, predicted, attribute)
        rows, unit = np.isfinite(error), "share" if isinstance(attribute, ClassAttribute) else attribute.unit
        columns = (error[rows], matched[rows], strata[rows])
        estimate = Bootstrap()(excess, *columns, groups=person_id[rows], unit=unit)
        measured[attribute.name] = Estimate(estimate.value, estimate.low, estimate.high, int(matched[rows].sum()), unit)
    return measured


def in_training(faces: pd.DataFrame, part: pd.Series, copies: tuple, persons: tuple) -> dict[str, Estimate]:
    """Shares of test images with a copy in training, and with another photograph of a recognised person alone."""
    kinds = leaks_table(faces, part, *copies, *persons)["kind"]
    recognised, tested = int(kinds.str.startswith(PERSON).sum()), int(part.isin(["test", "both"]).sum())
    return {"copied": rate(len(kinds) - recognised, tested), "recognised": rate(recognised, tested)}


def agreement(
    faces: pd.DataFrame, group_id: np.ndarray, person_id: np.ndarray, close: Pairs, attributes: tuple
) -> dict:
    """How often two photographs of a recognised person have one label, of an age within five years; copies left out.

    Labels of true matches differ as those of copies do; false matches would differ more often.
    """
    joint = (person_id[close.first] == person_id[close.second]) & (group_id[close.first] != group_id[close.second])
    first, second = close.first[joint], close.second[joint]
    measured = {}
    for attribute in attributes:
        labels = faces[attribute.name].to_numpy(float)
        apart = np.abs(labels[first] - labels[second])
        alike = apart <= (0 if isinstance(attribute, ClassAttribute) else 5)
        same = f"the same {attribute.name}" if isinstance(attribute, ClassAttribute) else f"{attribute.name} within 5"
        measured[f"pairs of one person with {same}"] = rate(int(alike.sum()), len(alike))
    return measured


def main() -> None:
    """Recognise, compare, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--run", type=Path, required=True, help="folder of a published run on the same photographs")
    parser.add_argument("--split", type=Path, help="folder with train.csv and test.csv")
    parser.add_argument("--out", type=Path, default=AUDIT_RESULTS)
    options = parser.parse_args()
    source = read_faces(options.data)
    images, faces, _ = cache_faces(source, 64, cache_root())
    pairs = duplicates.find_copies(faces, images)
    group_id = duplicates.group_copies(len(faces), pairs)
    descriptors = embed_faces(faces, lambda: source, cache_root()).descriptors
    found, close = find_persons(descriptors)
    person_id = joined(group_id, found)
    photographs = pd.Series(group_id).groupby(person_id).nunique()
    largest = int(photographs.max())
    strata = stratum(faces, source.attributes).to_numpy()
    bands = stratum(faces, source.attributes[:1]).to_numpy()
    stored = {
        "faces": len(faces), "persons on several photographs": int((photographs > 1).sum()),
        "photographs of them": int(photographs[photographs > 1].sum()), "largest": largest,
        "random pairs of the same labels": match_rate(descriptors, strata, group_id),
        "copies recognised": known_match_rate(descriptors, group_id),
    }  # fmt: skip
    for band in sorted(set(bands)):
        rows = bands == band
        stored[f"random pairs, {band}"] = match_rate(descriptors[rows], strata[rows], group_id[rows])
    stored |= agreement(faces, group_id, person_id, close, source.attributes)
    split = pd.read_parquet(options.run / "tables" / "splits.parquet").set_index("image_id").loc[faces["image_id"]]
    part = split["split"].where(split["split"] == "test", "train").reset_index(drop=True)
    copies, persons = (group_id, pairs), (person_id, close)
    stored |= {f"run: {key}": value for key, value in in_training(faces, part, copies, persons).items()}
    leaks = leaks_table(faces, part, *copies, *persons)
    matched = faces["image_id"].isin(leaks.loc[leaks["kind"].str.startswith(PERSON), "test_image"]).to_numpy()
    tested = (split["split"] == "test").to_numpy() & split["representative"].to_numpy()
    predictions = pd.read_parquet(options.run / "tables" / "predictions.parquet").query("model == 'predictor'")
    predicted = predictions.set_index("image_id").loc[faces.loc[tested, "image_id"]].reset_index(drop=True)
    some = faces[tested].reset_index(drop=True)
    excesses = matched_errors(some, matched[tested], person_id[tested], predicted, source.attributes)
    stored |= {f"run: error of matched minus others, {name}": value for name, value in excesses.items()}
    if options.split:
        listed, _ = read_protocol(options.split, faces)
        shares = in_training(faces, listed, copies, persons)
        stored |= {f"{options.split.name}: {key}": value for key, value in shares.items()}
    write_json(options.out / "persons.json", stored)
    for key, value in stored.items():
        print(f"{key:50} {value}" + (f", n = {value.n:,}" if isinstance(value, Estimate) else ""))


if __name__ == "__main__":
    main()
