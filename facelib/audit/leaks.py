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
    label, content = part.to_numpy(), faces["sha256"].to_numpy()
    tested, trained = (np.flatnonzero(np.isin(label, [side, "both"])) for side in ("test", "train"))
    group = pd.Series(group_id)
    # One training image of each content and one of each group are enough: listing all pairs of a group might explode.
    by_content = pd.Series(trained, index=content[trained])
    by_group = pd.Series(trained, index=group_id[trained])
    exact = pd.DataFrame({"test": tested, "train": pd.Series(content[tested]).map(by_content.groupby(level=0).first())})
    joined = pd.DataFrame({"test": tested, "train": group[tested].map(by_group.groupby(level=0).first()).to_numpy()})
    both = pd.concat([pairs, pairs.rename(columns={"first": "second", "second": "first"})])
    direct = both[both["first"].isin(tested) & both["second"].isin(trained)]
    direct = direct.rename(columns={"first": "test", "second": "train"})[["test", "train", "kind", "distance"]]
    found = pd.concat(
        [
            exact.assign(kind="exact", distance=0.0),
            direct.sort_values("distance", kind="stable"),
            joined.assign(kind="near by way of another copy", distance=np.nan),
        ]
    ).dropna(subset="train")
    closest = found.drop_duplicates("test").sort_values("test").astype({"train": int})
    ids = faces["image_id"].to_numpy()
    return pd.DataFrame(
        {
            "test_image": ids[closest["test"]],
            "train_image": ids[closest["train"]],
            "kind": closest["kind"].to_numpy(),
            "distance": closest["distance"].to_numpy(),
        }
    )
