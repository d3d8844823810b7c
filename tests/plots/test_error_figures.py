"""Figures of clusters of errors: counts, averages without single people, and medians."""

import numpy as np
import pandas as pd
import pytest

from facelib.data.pixels import FaceImages
from facelib.plots.errors import cluster_faces, error_map, median_table
from facelib.plots.style import MIN_AVERAGED


def test_the_error_map_counts_each_cluster(texts):
    figure = error_map(np.random.default_rng(0).normal(size=(6, 2)), np.array([-1, 0, 0, 1, 1, 1]), "Errors")
    for text in ("in no cluster (1)", "cluster 0 (2)", "cluster 1 (3)", "Errors"):
        assert text in texts(figure)


@pytest.fixture
def clusters() -> tuple[FaceImages, np.ndarray]:
    """25 pictures of 0 and 200 by turns, three of 90, and one in no cluster."""
    labels = np.repeat([0, 1, -1], [MIN_AVERAGED, 3, 1])
    grey = np.where(labels == 0, 200 * (np.arange(len(labels)) % 2), 90).astype(np.uint8)
    pixels = np.broadcast_to(grey[:, None, None, None], (len(labels), 4, 4, 3))
    return FaceImages(pixels, np.arange(len(labels))), labels


def test_clusters_too_small_to_be_anonymous_have_no_face(clusters, texts):
    figure = cluster_faces(*clusters, single=False)
    large, small = figure.axes[:2]
    assert (large.images[0].get_array() == 96).all() and not small.images  # 12 of 25 are 200
    assert f"cluster 0, n = {MIN_AVERAGED}\naverage" in texts(figure) and "cluster 1, n = 3\nnot shown" in texts(figure)
    assert "cluster -1" not in texts(figure)


def test_one_face_stands_for_a_small_cluster_only_where_single_ones_may_be_shown(clusters, texts):
    figure = cluster_faces(*clusters, single=True)
    large, small = figure.axes[:2]
    assert (large.images[0].get_array() == 96).all() and (small.images[0].get_array() == 90).all()
    assert "cluster 1, n = 3\none of them" in texts(figure)


def test_without_clusters_there_is_no_face(clusters, texts):
    figure = cluster_faces(clusters[0], np.full(29, -1), single=True)
    assert not figure.axes[0].images and "No clusters" in texts(figure)


def test_medians_are_bold_where_a_cluster_differs():
    rows = [(0, "score", 0.1, 0.9, 0.001), (1, "score", 0.8, 0.9, 0.6), (0, "width", 30.0, 28.0, 0.2)]
    columns = ["cluster", "measure", "median", "median_correct", "p_adjusted"]
    styled = median_table(pd.DataFrame(rows, columns=columns))
    assert styled.data.loc["score"].to_dict() == {"predicted well": 0.9, "cluster 0": 0.1, "cluster 1": 0.8}
    assert np.isnan(styled.data.loc["width", "cluster 1"])
    styled._compute()
    bold = {place for place, style in styled.ctx.items() if ("font-weight", "bold") in style}
    assert bold == {(0, 1)}
