"""Test images of a split that have a copy in training."""

import numpy as np
import pandas as pd

from facelib.audit.duplicates import both_ways


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

    def trained_with_same(key: np.ndarray) -> pd.DataFrame:
        # One training image is enough: listing all pairs of a group might explode.
        first = pd.Series(trained, index=key[trained])
        return pd.DataFrame({"row": tested, "copy": first[~first.index.duplicated()].reindex(key[tested]).to_numpy()})

    direct = both_ways(pairs)
    found = pd.concat(
        [
            trained_with_same(content).assign(kind="exact", distance=0.0),
            direct[direct["row"].isin(tested) & direct["copy"].isin(trained)],
            trained_with_same(np.asarray(group_id)).assign(kind="near by way of another copy", distance=np.nan),
        ]
    ).dropna(subset="copy")
    closest = found.drop_duplicates("row").sort_values("row").astype({"copy": int})
    ids = faces["image_id"].to_numpy()
    return pd.DataFrame(
        {
            "test_image": ids[closest["row"]],
            "train_image": ids[closest["copy"]],
            "kind": closest["kind"].to_numpy(),
            "distance": closest["distance"].to_numpy(),
        }
    )
