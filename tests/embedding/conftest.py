"""The face network's file, where its package is installed."""

from pathlib import Path

import pytest

from facelib.embedding.weights import WeightsError, weights_file


@pytest.fixture(scope="session")
def installed() -> Path:
    """The installed weights; tests that need them are skipped elsewhere."""
    try:
        return weights_file()
    except WeightsError as error:
        pytest.skip(str(error))
