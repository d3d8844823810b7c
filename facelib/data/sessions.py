"""Collection sessions of a data set: when each image was collected, and which images were collected together.

UTKFace's file names end in the time of collection. Images collected together answer one query of whoever collected
them: neighbours share their labels, so a split of single images tests on more of the batches that it trains on.
"""

import re

import numpy as np
import pandas as pd

STAMP = re.compile(r"_(\d{14})(\d{0,3})[^/\\]*$")  # year to second, and what there is of the milliseconds
# Seconds between two consecutive times that end a session. In UTKFace 99.8 % of these gaps are shorter. A prediction
# from the nearest times of other sessions beats a constant where sessions end after 5 to 20 minutes (age error 11.5 to
# 12.7 years), and no longer where they end after 30 (17.6 years): `python -m studies.sessions`, reports/sessions.
SESSION_GAP = 1800
NEIGHBOURS = 11  # nearest training faces in time whose labels predict one


def collection_times(names: pd.Series) -> pd.Series:
    """Time of collection in the name of each file or path, as ISO text to the millisecond; empty where there is none.

    Examples
    --------
    >>> collection_times(pd.Series(["26_1_2_20170116184024662.jpg", "26_1_2_portrait.jpg"])).tolist()
    ['2017-01-16T18:40:24.662', '']
    """
    parts = names.astype(str).str.extract(STAMP)
    digits = parts[0] + parts[1].fillna("").str.ljust(3, "0")
    times = pd.to_datetime(digits, format="%Y%m%d%H%M%S%f", errors="coerce")
    text = times.dt.strftime("%Y-%m-%dT%H:%M:%S.%f").str[:23]
    return text.fillna("").astype(object)


def seconds(collected: pd.Series) -> np.ndarray:
    """Seconds since 1970 of `collection_times`: float (n,), nan where there is none."""
    times = pd.to_datetime(collected.replace("", None), format="ISO8601")
    return ((times - pd.Timestamp(0)) / pd.Timedelta(seconds=1)).to_numpy(float)


def sessions_of(collected: pd.Series, gap: float = SESSION_GAP) -> pd.Series:
    """Session of each image: the time of its first image, to the second; empty where no time is known.

    Examples
    --------
    >>> sessions_of(pd.Series(["2017-01-16T18:40:24.662", "2017-01-16T18:50:00", "2017-01-17T09:00:00"])).tolist()
    ['2017-01-16T18:40:24', '2017-01-16T18:40:24', '2017-01-17T09:00:00']
    """
    known = collected[collected != ""].sort_values(kind="stable")
    begins = np.diff(seconds(known), prepend=-np.inf) > gap
    first = known.str[:19].where(begins).ffill()
    return first.reindex(collected.index).fillna("").astype(object)


def has_sessions(faces: pd.DataFrame) -> bool:
    """Whether a faces table names two sessions or more."""
    return "session" in faces and len(set(faces["session"]) - {""}) > 1


def nearest_in_time(known: np.ndarray, asked: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Positions of the k known times nearest to each time asked: int (len(asked), k), fewer where fewer are known.

    Times are in seconds, all finite; of two equally near ones the earlier comes first.

    Examples
    --------
    >>> nearest_in_time(np.array([0.0, 10, 20, 90]), np.array([12.0]), k=2).tolist()
    [[1, 2]]
    """
    k, order = min(k, len(known)), np.argsort(known, kind="stable")
    times = known[order]
    # The k nearest lie among the k before and the k after the place of a time.
    around = np.searchsorted(times, asked)[:, None] + np.arange(-k, k)
    outside = (around < 0) | (around >= len(times))
    far = np.where(outside, np.inf, np.abs(times[around.clip(0, len(times) - 1)] - asked[:, None]))
    chosen = np.argsort(far, axis=1, kind="stable")[:, :k]
    return order[np.take_along_axis(around, chosen, axis=1)]
