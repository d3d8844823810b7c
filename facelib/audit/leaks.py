"""Test images of a split that have a copy, or another photograph of the same person, in training."""

import numpy as np
import pandas as pd

from facelib.audit.duplicates import both_ways

PERSON = "same person"  # the kind of a leak that is no copy


def leaks_table(
    faces: pd.DataFrame, part: pd.Series, group_id, pairs: pd.DataFrame, person_id=None, matches=None
) -> pd.DataFrame:
    """Test images with a copy or a recognised person in training, each once.

    Parameters
    ----------
    faces : DataFrame
    part : Series
        From `protocols.read_protocol`.
    group_id, pairs
        Of copies: from `duplicates.group_copies` and `duplicates.find_copies`.
    person_id, matches : optional
        Of persons: from `embedding.persons.find_persons`.

    Returns
    -------
    DataFrame
        test_image, train_image (the same, where both lists name it), kind (exact | near | altered | near by way of
        another copy | same person | same person by way of another photograph), distance; the closest one of
        each, copies before persons. The distance of persons is relative: see `embedding.persons`.
    """
    label, content = part.to_numpy(), faces["sha256"].to_numpy()
    tested, trained = (np.flatnonzero(np.isin(label, [side, "both"])) for side in ("test", "train"))

    def trained_with_same(key: np.ndarray) -> pd.DataFrame:
        # One training image is enough: listing all pairs of a group might explode.
        first = pd.Series(trained, index=key[trained])
        return pd.DataFrame({"row": tested, "copy": first[~first.index.duplicated()].reindex(key[tested]).to_numpy()})

    def crossing(direct: pd.DataFrame) -> pd.DataFrame:
        direct = both_ways(direct)
        return direct[direct["row"].isin(tested) & direct["copy"].isin(trained)]

    candidates = [
        trained_with_same(content).assign(kind="exact", distance=0.0),
        crossing(pairs),
        trained_with_same(np.asarray(group_id)).assign(kind="near by way of another copy", distance=np.nan),
    ]
    if person_id is not None:
        same = pd.DataFrame(matches._asdict())[person_id[matches.first] == person_id[matches.second]]
        by_way = trained_with_same(np.asarray(person_id))
        candidates.append(crossing(same.assign(kind=PERSON)))
        candidates.append(by_way.assign(kind=f"{PERSON} by way of another photograph", distance=np.nan))
    candidates = pd.concat(candidates).dropna(subset="copy")
    closest = candidates.drop_duplicates("row").sort_values("row").astype({"copy": int})
    ids = faces["image_id"].to_numpy()
    named = {"test_image": ids[closest["row"]], "train_image": ids[closest["copy"]]}
    return closest.assign(**named)[[*named, "kind", "distance"]].reset_index(drop=True)
