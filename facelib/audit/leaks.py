"""Test images of a split that have a copy in training."""

import numpy as np
import pandas as pd

from facelib.audit.duplicates import both_ways


def leaks_table(faces: pd.DataFrame, part: pd.Series, group_id, pairs: pd.DataFrame) -> pd.DataFrame:
    """Test images with a copy in training, by `protocols.read_protocol`'s part and `duplicates.find_copies`'s pairs.

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
    candidates = pd.concat(
        [
            trained_with_same(content).assign(kind="exact", distance=0.0),
            direct[direct["row"].isin(tested) & direct["copy"].isin(trained)],
            trained_with_same(np.asarray(group_id)).assign(kind="near by way of another copy", distance=np.nan),
        ]
    ).dropna(subset="copy")
    closest = candidates.drop_duplicates("row").sort_values("row").astype({"copy": int})
    ids = faces["image_id"].to_numpy()
    named = {"test_image": ids[closest["row"]], "train_image": ids[closest["copy"]]}
    return closest.assign(**named)[[*named, "kind", "distance"]].reset_index(drop=True)
