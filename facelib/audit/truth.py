"""The audit scored against the truth that comes with synthetic faces."""

import numpy as np
import pandas as pd

from facelib.audit.planting import score_ranking
from facelib.data.ingest import synthetic_folder
from facelib.runs import RunFolder
from facelib.schema import ATTRIBUTES
from facelib.statistics import rate


def wrong_labels(run: RunFolder, image_ids: pd.Series) -> pd.DataFrame | None:
    """Which labels are really wrong: bool, a row per image_id and a column per attribute.

    None for data that the package did not draw, of which nobody knows.
    """
    if not run.is_synthetic:
        return None
    truth = pd.read_csv(synthetic_folder(run) / "truth.csv", dtype={"mislabelled": str}).set_index("image_id")
    named = truth.loc[image_ids, "mislabelled"].fillna("").str.split(",")
    return pd.DataFrame({name: named.map(lambda names, name=name: name in names) for name in ATTRIBUTES})


def score_audit(run: RunFolder, faces: pd.DataFrame, group_id: np.ndarray, issues: pd.DataFrame) -> pd.DataFrame:
    """How much of what was planted the audit found, and how much of what it found was planted.

    Parameters
    ----------
    run : RunFolder
    faces : DataFrame
    group_id : int array of shape (n,)
        Groups of copies found by the audit.
    issues : DataFrame
        From `label_issues.find_issues`.

    Returns
    -------
    DataFrame
        measure, value, low, high, n; empty for data that the package did not draw.
    """
    columns = ["measure", "value", "low", "high", "n"]
    if not run.is_synthetic:
        return pd.DataFrame(columns=columns)
    truth = pd.read_csv(
        synthetic_folder(run) / "truth.csv", dtype={"mislabelled": str, "copy_of": str, "copy_kind": str}
    )
    truth = (
        truth.set_index("image_id").loc[faces["image_id"]].fillna({"mislabelled": "", "copy_of": "", "copy_kind": ""})
    )
    group = pd.Series(group_id, index=faces["image_id"])
    copies = truth[(truth["copy_of"] != "") & truth["copy_of"].isin(group.index)]
    found = group.loc[copies.index].to_numpy() == group.loc[copies["copy_of"]].to_numpy()
    rows = [
        {"measure": f"{kind} copies found", **rate(int(found[part].sum()), len(part)).to_dict()}
        for kind, part in copies.groupby("copy_kind").indices.items()
    ]
    people = truth.groupby(group.to_numpy())["person"].nunique()
    grouped = truth.groupby(group.to_numpy()).size() > 1
    rows.append(
        {
            "measure": "groups that hold one person only",
            **rate(int((people[grouped] == 1).sum()), int(grouped.sum())).to_dict(),
        }
    )
    wrong_by_image = wrong_labels(run, faces["image_id"])
    for attribute, part in issues.groupby("attribute"):
        wrong = wrong_by_image.loc[part["image_id"], attribute].to_numpy()
        flagged = part["is_issue"].to_numpy()
        rows += [
            {
                "measure": f"wrong {attribute} labels flagged",
                **rate(int((wrong & flagged).sum()), int(wrong.sum())).to_dict(),
            },
            {
                "measure": f"flagged {attribute} labels wrong",
                **rate(int((wrong & flagged).sum()), int(flagged.sum())).to_dict(),
            },
        ]
        if wrong.any():
            ranking = score_ranking(part["score"].to_numpy(), wrong, group.loc[part["image_id"]].to_numpy())["auroc"]
            rows.append({"measure": f"{attribute} ranking, AUROC", **ranking.to_dict()})
    return pd.DataFrame(rows, columns=columns)
