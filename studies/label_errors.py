"""Planted label errors found again, by the face features and by the networks that scored labels before.

Classes are replaced by others (3 % of the labels of two classes, 5 % of more) and ages moved by 20 years (3 %) outside
the test split. Errors that came with the data count as false alarms, so precision is a lower bound. In `planted` the
models learn from the planted labels, as they would from real errors. `side_by_side` plants afterwards, so that the
published out-of-fold predictions of networks can be scored on the same labels, and adds labels that copies contradict.
Writes label_errors.json, label_errors.csv (precision and recall at each cut) and label_errors.svg.

usage: python -m studies.label_errors UTKFACE [--networks REPORT] [--out DIR]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit import decisions, duplicates, label_issues, planting
from facelib.audit.out_of_fold import score_out_of_fold
from facelib.config import resolve
from facelib.data.pixels import cache_faces
from facelib.data.readers import read_faces
from facelib.data.splits import joined, split_faces
from facelib.embedding.features import embed_faces
from facelib.embedding.persons import find_persons
from facelib.formats import write_json
from facelib.metrics import auc
from facelib.plots.audit import ranking_curves
from facelib.plots.style import use_style
from facelib.runs import cache_root
from facelib.schema import Attribute
from facelib.statistics import Bootstrap, rate
from studies import AUDIT_RESULTS

RESAMPLES = 300
CONTRADICTIONS = {"years": 20, "classes": 1}  # between two copies, from which on one label is certainly wrong


def contradicted(faces: pd.DataFrame, group_id: np.ndarray, attribute: Attribute) -> np.ndarray:
    """Which labels differ from that of a copy by `CONTRADICTIONS` or more: bool (n,)."""
    labels = faces[attribute.name].where(attribute.is_known(faces[attribute.name])).astype(float).groupby(group_id)
    return (labels.transform("max") - labels.transform("min") >= CONTRADICTIONS[attribute.kind]).to_numpy()


def on_contradictions(issues: pd.DataFrame, wrong: dict[str, np.ndarray], image_ids: pd.Series) -> dict:
    """AUROC of labels that copies contradict, of which half are wrong, and the share of them that is flagged."""
    measured = {}
    for name, part in issues.groupby("attribute", sort=False):
        marked = part["image_id"].isin(image_ids[wrong[name]]).to_numpy()
        flagged = part["is_issue"].to_numpy()
        measured[f"{name}.contradicted.auroc"] = float(auc(marked, -part["score"].to_numpy()))
        measured[f"{name}.contradicted.flagged"] = rate(int(flagged[marked].sum()), int(marked.sum())).to_dict()
        measured[f"{name}.others.flagged"] = rate(int(flagged[~marked].sum()), int((~marked).sum())).to_dict()
    return measured


def main() -> None:
    """Plant, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--networks", type=Path, help="a published run whose predictions hold the model label_scorer")
    parser.add_argument("--out", type=Path, default=AUDIT_RESULTS)
    options = parser.parse_args()
    seed, source = resolve("full").seed, read_faces(options.data)
    images, faces, _ = cache_faces(source, 64, cache_root())
    group_id = duplicates.group_copies(len(faces), duplicates.find_copies(faces, images))
    embedding = embed_faces(faces, lambda: source, cache_root())
    person_id = joined(group_id, find_persons(embedding.descriptors)[0])
    split = split_faces(faces, group_id, source.attributes, seed, person_id=person_id)
    outside = np.flatnonzero(split["split"] != "test")
    faces, split = (table.iloc[outside].reset_index(drop=True) for table in (faces, split))
    features, group_id, bootstrap = embedding.features[outside], group_id[outside], Bootstrap(RESAMPLES)
    spoilt, planted = planting.plant_errors(faces, source.attributes, seed)

    def predicted(labels: pd.DataFrame) -> pd.DataFrame:
        agreed = labels.assign(**decisions.agreed_labels(labels, group_id, source.attributes))
        return score_out_of_fold(features, agreed, split, source.attributes, seed)

    start = time.perf_counter()
    issues = label_issues.find_issues(spoilt, predicted(spoilt), source.attributes)
    seconds = time.perf_counter() - start
    results, curves = planting.measure_ranking(issues, spoilt, planted, group_id, bootstrap)
    rates = planting.flag_rates(issues, spoilt, planted, source.attributes)
    stored = {name: value.to_dict() for name, value in results.items()}
    stored = {"seconds": seconds, "planted": stored, "flags": rates.to_dict("records"), "side_by_side": {}}
    scorers = {"features": predicted(faces)}
    if options.networks:
        table = pd.read_parquet(options.networks / "tables" / "predictions.parquet")
        table = table[table["model"] == "label_scorer"].set_index("image_id")
        scorers["networks"] = table.loc[faces["image_id"]].reset_index(drop=True)
    wrong = {a.name: contradicted(faces, group_id, a) for a in source.attributes}
    for name, scores in scorers.items():
        issues = label_issues.find_issues(spoilt, scores, source.attributes)
        measured, _ = planting.measure_ranking(issues, spoilt, planted, group_id, bootstrap)
        given = label_issues.find_issues(faces, scores, source.attributes)
        by_group = planting.flag_rates(issues, spoilt, planted, source.attributes)
        stored["side_by_side"][name] = {key: value.to_dict() for key, value in measured.items()}
        stored["side_by_side"][name] |= on_contradictions(given, wrong, faces["image_id"])
        stored["side_by_side"][name]["flags"] = by_group.to_dict("records")
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "label_errors.json", stored)
    curves.to_csv(options.out / "label_errors.csv", index=False, float_format="%.4f")
    use_style()
    ranking_curves(curves, results).savefig(options.out / "label_errors.svg", metadata={"Date": None})
    print(f"models: {seconds:.1f} s")
    print(pd.DataFrame(stored["planted"]).T.to_string())
    for name, measured in stored["side_by_side"].items():
        print(name, {key: value.get("value") if isinstance(value, dict) else value
                     for key, value in measured.items() if key != "flags"})  # fmt: skip
    print(rates.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
