"""Test images of a split that have a copy in training."""

import numpy as np
import pandas as pd


def leaks_table(faces: pd.DataFrame, part: pd.Series, group_id, pairs: pd.DataFrame) -> pd.DataFrame:
    """Test images with a copy in training.

    Parameters
    ----------
    faces : DataFrame
    part : Series of str
        `train`, `test`, `both` or empty, by row; see `facelib.data.protocols.read_protocol`.
    group_id : int array of shape (n,)
    pairs : DataFrame
        From `duplicates.find_copies`.

    Returns
    -------
    DataFrame
        test_image, train_image (the same, where both lists name it), kind (exact | near | near by way of another
        copy), distance; the closest copy of each.
    """
    label = part.to_numpy()
    tested, trained = np.isin(label, ["test", "both"]), np.isin(label, ["train", "both"])
    group = pd.DataFrame({"row": np.arange(len(faces)), "group": group_id})
    joined = group[tested].merge(group[trained], on="group", suffixes=("", "_train"))
    ordered = np.sort(joined[["row", "row_train"]].to_numpy(), axis=1)
    joined["first"], joined["second"] = ordered.T
    joined = joined.merge(pairs, how="left", on=["first", "second"])
    # Byte-identical files count as exact whichever of their pairs the search listed.
    content = faces["sha256"].to_numpy()
    same = content[joined["row"]] == content[joined["row_train"]]
    joined.loc[same, ["kind", "distance"]] = ["exact", 0.0]
    joined["kind"] = joined["kind"].fillna("near by way of another copy")
    closest = joined.sort_values("distance", kind="stable").drop_duplicates("row").sort_values("row")
    ids = faces["image_id"].to_numpy()
    return pd.DataFrame(
        {
            "test_image": ids[closest["row"]],
            "train_image": ids[closest["row_train"]],
            "kind": closest["kind"].to_numpy(),
            "distance": closest["distance"].to_numpy(),
        }
    )
