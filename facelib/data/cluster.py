"""Work on single images spread over a dask cluster instead of this machine's cores."""

import contextlib
from collections.abc import Iterator

import joblib

from facelib.errors import FacelibError

TIMEOUT = "10s"  # to wait for a scheduler


class ClusterUnreachable(FacelibError):
    """A dask cluster that cannot be used."""


@contextlib.contextmanager
def on_cluster(address: str) -> Iterator[None]:
    """Within the block, reading, decoding, hashing, embedding and scoring of images run on a dask cluster.

    Every worker needs this package and the photographs under the same path. Results do not change. With a single worker
    joblib stays on this machine.

    Parameters
    ----------
    address : str
        Of the scheduler, such as tcp://10.0.0.1:8786; empty to stay on this machine.

    Raises
    ------
    ClusterUnreachable
        If dask is not installed, or no scheduler answers.
    """
    if not address:
        yield
        return
    try:
        from distributed import Client  # the extra `cluster`
    except ImportError:
        raise ClusterUnreachable("--cluster needs dask: pip install 'facelib[cluster]'") from None
    try:
        client = Client(address, timeout=TIMEOUT)
    except (OSError, ValueError) as error:
        raise ClusterUnreachable(
            f"no dask scheduler answers at {address}: start one, or leave --cluster out"
        ) from error
    with client, joblib.parallel_config("dask"):
        yield
