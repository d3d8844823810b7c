"""The audit scored against the truth that comes with synthetic faces."""

import numpy as np
import pandas as pd

from facelib.audit.planting import score_ranking
from facelib.data.ingest import synthetic_folder
from facelib.runs import RunFolder
from facelib.statistics import Bootstrap, Estimate, rate
from facelib.synthetic.dataset import read_truth

RESAMPLES = 300  # behind the interval of a ranking


def wrong_labels(run: RunFolder, image_ids: pd.Series) -> pd.DataFrame | None:
    """Which labels are really wrong: bool, a row per image_id and a column per attribute; None for real photographs."""
    if not run.is_synthetic:
        return None
    wrong = read_truth(synthetic_folder(run)).loc[image_ids, "mislabelled"].str.split(",")
    names = [attribute.name for attribute in run.attributes]
    return pd.DataFrame([[name in listed for name in names] for listed in wrong], wrong.index, names)


def score_audit(run: RunFolder, faces: pd.DataFrame, group_id: np.ndarray, issues: pd.DataFrame) -> pd.DataFrame:
    """How much of what was planted the audit found (`group_id`, `issues`), and how much of what it found was planted.

    Columns: measure, value, low, high, n. Empty for real photographs, whose truth is unknown.
    """
    columns = ["measure", "value", "low", "high", "n"]
    if not run.is_synthetic:
        return pd.DataFrame(columns=columns)
    measured = _score_copies(read_truth(synthetic_folder(run)).loc[faces["image_id"]], group_id)
    group = pd.Series(group_id, index=faces["image_id"])
    for attribute, part in issues.groupby("attribute"):
        wrong = wrong_labels(run, part["image_id"])[attribute].to_numpy()
        flagged = part["is_issue"].to_numpy()
        hits = int((wrong & flagged).sum())
        measured[f"wrong {attribute} labels flagged"] = rate(hits, int(wrong.sum()))
        measured[f"flagged {attribute} labels wrong"] = rate(hits, int(flagged.sum()))
        if wrong.any():
            groups = group.loc[part["image_id"]].to_numpy()
            ranking = score_ranking(part["score"].to_numpy(), wrong, Bootstrap(RESAMPLES), groups)
            measured[f"{attribute} ranking, AUROC"] = ranking["auroc"]
    return pd.DataFrame([{"measure": name, **value.to_dict()} for name, value in measured.items()], columns=columns)


def _score_copies(truth: pd.DataFrame, group_id: np.ndarray) -> dict[str, Estimate]:
    """Shares of copies found, by kind, and of groups that hold one person only; `truth` is by row of `group_id`."""
    group = pd.Series(group_id, index=truth.index)
    copies = truth[(truth["copy_of"] != "") & truth["copy_of"].isin(truth.index)]
    together = group.loc[copies.index].to_numpy() == group.loc[copies["copy_of"]].to_numpy()
    measured = {
        f"{kind} copies found": rate(int(together[rows].sum()), len(rows))
        for kind, rows in copies.groupby("copy_kind").indices.items()
    }
    by_group = truth["person"].groupby(group)
    people = by_group.nunique()[by_group.size() > 1]
    return measured | {"groups that hold one person only": rate(int((people == 1).sum()), len(people))}
