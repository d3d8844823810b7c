"""Copies: planted ones are found, different people are not, and groups are the closure of the pairs."""

import itertools

import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facelib.audit import duplicates
from facelib.audit.alignment import COARSE_PX, grey_pictures
from facelib.audit.duplicates import (
    HASH_RADIUS,
    MIN_DETAIL,
    CoarsePictures,
    candidate_pairs,
    copy_limit,
    duplicates_table,
    find_copies,
    group_copies,
    perceptual_hashes,
)
from facelib.data.pixels import FaceImages, cache_faces
from facelib.data.readers import read_utkface
from facelib.embedding.persons import Pairs
from facelib.synthetic.dataset import write_synthetic_faces
from facelib.synthetic.drawing import draw_face


def stack(images) -> FaceImages:
    images = np.stack([np.asarray(image) for image in images])
    return FaceImages(images, np.arange(len(images)))


def portrait(seed: int, px: int = 64) -> np.ndarray:
    return draw_face(30, 1, 0, np.random.default_rng([77, seed]), px)


# --- planted copies ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """150 synthetic faces: the table, the copies found, and the pairs that truth.csv knows, with their kind."""
    folder = tmp_path_factory.mktemp("planted")
    source = read_utkface(write_synthetic_faces(folder, 150, seed=8, px=96, n_jobs=1))
    images, faces, _ = cache_faces(source, 64, folder / "cache")
    found = find_copies(faces, images)
    truth = pd.read_csv(folder / "truth.csv", keep_default_na=False).set_index("image_id").loc[faces["image_id"]]
    true = {}
    for rows in pd.Series(range(len(truth))).groupby(truth["person"].to_numpy()).groups.values():
        for first, second in itertools.combinations(sorted(rows), 2):
            kinds = {truth["copy_kind"].iloc[first], truth["copy_kind"].iloc[second]} - {""}
            true[first, second] = "exact" if kinds == {"exact"} else "near"
    return faces, found, true


def pairs_of(found: pd.DataFrame, kind: str) -> set[tuple[int, int]]:
    return set(found.loc[found["kind"] == kind, ["first", "second"]].itertuples(index=False, name=None))


@pytest.mark.slow
def test_every_exact_copy_is_found_at_distance_zero(planted):
    _, found, true = planted
    exact = {pair for pair, kind in true.items() if kind == "exact"}
    assert len(exact) >= 4 and pairs_of(found, "exact") == exact
    assert (found.loc[found["kind"] == "exact", "distance"] == 0).all()


def test_most_near_copies_are_found_and_nothing_else(planted):
    faces, found, true = planted
    near = {pair for pair, kind in true.items() if kind == "near"}
    assert len(near) >= 6
    hits = pairs_of(found, "near") & near
    assert len(hits) >= 0.8 * len(near)
    assert not pairs_of(found, "near") - set(true)  # no two people are called one
    group_id = group_copies(len(faces), found)
    assert len(np.unique(group_id)) <= len(faces) - 4 - 0.8 * 6


def test_pairs_are_ordered_unique_and_no_row_pairs_with_itself(planted):
    _, found, _ = planted
    assert (found["first"] < found["second"]).all()
    assert not found.duplicated(["first", "second"]).any()
    assert found["distance"].between(0, 1 - MIN_DETAIL).all()


@pytest.mark.parametrize(
    ("change", "mirrored"),
    [
        (lambda image: image, False),
        (lambda image: np.clip(image * 0.7, 0, 255).astype(np.uint8), False),
        (lambda image: np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8), False),
        (lambda image: np.asarray(Image.fromarray(image).resize((40, 40)).resize((64, 64))), False),
        (lambda image: image[:, ::-1], True),
        (lambda image: np.asarray(Image.fromarray(image[2:63, 1:62]).resize((64, 64))), False),
    ],
    ids=["reencoded", "darker", "grey", "resized", "mirrored", "cropped"],
)
def test_each_kind_of_copy_is_told_from_other_people(change, mirrored):
    images = [portrait(k) for k in range(6)]
    images.append(np.ascontiguousarray(change(images[2])))
    images = stack(images)
    faces = pd.DataFrame({"sha256": [f"{k:064x}" for k in range(7)]})
    found = find_copies(faces, images)
    assert found[["first", "second", "kind", "mirrored"]].to_numpy().tolist() == [[2, 6, "near", mirrored]]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_beyond_the_hash_is_found_where_the_face_network_points_at_it(mirrored):
    """Cropped by 12 %, turned by 8 degrees, darker; one pair of other people is alike, too, and one row is repeated."""
    images = [portrait(k, 200) for k in range(5)]
    turned = Image.fromarray(images[1]).rotate(8, Image.Resampling.BICUBIC).crop((20, 12, 188, 180)).resize((200, 200))
    altered = (np.asarray(turned)[:, :: -1 if mirrored else 1] * 0.8).astype(np.uint8)
    small = [np.asarray(Image.fromarray(image).resize((64, 64))) for image in (*images, altered, images[1])]
    faces, images = pd.DataFrame({"sha256": list("abcdefb")}), stack(small)
    alike = Pairs(np.array([5, 0, 1]), np.array([6, 3, 6]), np.array([0.5, 0.4, 0.0]))
    assert pairs_of(find_copies(faces, images), "near") == set()
    found = find_copies(faces, images, alike)
    assert pairs_of(found, "exact") == {(1, 6)} and pairs_of(found, "altered") == {(1, 5)}
    assert found.set_index("kind")["mirrored"]["altered"] == mirrored
    none = Pairs(*(part[:0] for part in alike))
    assert pairs_of(find_copies(faces, images, none), "altered") == set()


def test_copies_of_a_copy_are_found_through_one_row_of_each_content():
    images = stack([portrait(0), portrait(1), portrait(0), portrait(1)])
    faces = pd.DataFrame({"sha256": ["a", "b", "a", "b"]})
    found = find_copies(faces, images)
    assert pairs_of(found, "exact") == {(0, 2), (1, 3)} and pairs_of(found, "near") == set()
    nothing = find_copies(faces[:2], images)
    assert nothing.empty and list(nothing.columns) == list(found.columns)


def test_a_symmetric_copy_makes_one_pair_although_its_mirror_image_fits_too():
    half = portrait(2)[:, :32]
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    images = stack([image, np.clip(image * 0.8, 0, 255).astype(np.uint8)])
    hashes = perceptual_hashes(images, n_jobs=1)
    assert len(joined(candidate_pairs(hashes))) == 2
    assert len(find_copies(pd.DataFrame({"sha256": ["a", "b"]}), images)) == 1


# --- hashes and pixels ------------------------------------------------------------------------------------


def joined(parts) -> pd.DataFrame:
    return pd.concat(list(parts), ignore_index=True)


def test_candidates_equal_brute_force():
    rng = np.random.default_rng(0)
    families = rng.integers(0, 2**63, (50, 2), dtype=np.uint64)
    hashes = families[rng.integers(0, 50, 400)]
    swapped = rng.random(400) < 0.3
    hashes[swapped] = hashes[swapped][:, ::-1]
    for row, column in itertools.product(range(400), range(2)):
        for bit in rng.choice(64, rng.integers(0, 9), replace=False):
            hashes[row, column] ^= np.uint64(1) << np.uint64(bit)
    plain = hashes.tolist()
    expected = set()
    for first, second in itertools.combinations(range(400), 2):
        for mirrored in (False, True):
            bits = (plain[first][0] ^ plain[second][mirrored]).bit_count()
            if bits <= HASH_RADIUS:
                expected.add((first, second, bits, mirrored))
    found = joined(candidate_pairs(hashes))
    assert set(found.itertuples(index=False, name=None)) == expected and len(found) == len(expected)
    assert found["mirrored"].nunique() == 2 and {11, 12} <= set(found["bits"])


def test_the_second_hash_is_that_of_the_mirror_image():
    image = portrait(3)
    there, back = perceptual_hashes(stack([image, image[:, ::-1]]), n_jobs=1)
    assert there.tolist() == back[::-1].tolist() and there[0] != there[1]


@pytest.mark.parametrize("px", [32, 48, 64, 96])
def test_the_hash_is_imagehashs(px):
    images = [portrait(k, px) for k in range(5)]
    images += [np.random.default_rng(k).integers(0, 256, (px, px, 3), dtype=np.uint8) for k in range(50)]
    found = perceptual_hashes(stack(images))
    for row, image in enumerate(images):
        for column, view in enumerate((image, image[:, ::-1])):
            bits = np.unpackbits(found[row, column : column + 1].view(np.uint8))
            assert (bits.reshape(8, 8) == imagehash.phash(Image.fromarray(view)).hash).all()


def test_pictures_that_are_not_even_roughly_alike_are_not_compared_further():
    image = portrait(4)
    images = stack([image, image // 2 + 40, image[:, ::-1], 255 - image])
    pairs = pd.DataFrame({"first": 0, "second": [1, 2, 2, 3], "mirrored": [False, True, False, False]})
    coarse = CoarsePictures(grey_pictures(images[np.arange(4)], COARSE_PX))
    darker, mirrored, unturned, negative = coarse.correlation(pairs)
    assert darker > 0.999 and mirrored > 0.999 and unturned < 0.999 and negative == 0
    assert coarse.correlation(pairs[:0]).shape == (0,)
    many = pairs.loc[np.tile(range(4), 12_000)]  # more than are compared at a time
    assert np.allclose(coarse.correlation(many), np.tile([darker, mirrored, unturned, 0], 12_000))


# --- many copies ------------------------------------------------------------------------------------------


def tones(image: np.ndarray, n: int) -> FaceImages:
    """Re-lit versions of one picture, all different in content."""
    return stack([np.clip(image * (0.7 + 0.3 * k / n), 0, 255).astype(np.uint8) for k in range(n)])


def test_many_copies_make_one_group_without_a_list_of_all_pairs():
    images = tones(portrait(6), 60)
    faces = pd.DataFrame({"sha256": [f"{k:064x}" for k in range(60)]})
    found = find_copies(faces, images)
    assert len(np.unique(group_copies(60, found))) == 1
    assert len(found) < 60 * 59 / 2 / 4


def test_pairs_that_others_have_joined_are_not_compared_again(monkeypatch):
    images = tones(portrait(6), 40)
    faces = pd.DataFrame({"sha256": [f"{k:064x}" for k in range(40)]})
    monkeypatch.setattr(duplicates, "STAND_IN", 2.0)  # nobody stands in for anybody
    everything = find_copies(faces, images)
    assert len(everything) == 40 * 39 / 2
    monkeypatch.setattr(duplicates, "COMPARED_AT_ONCE", 100)
    fewer = find_copies(faces, images)
    assert len(fewer) < len(everything) / 2 and len(np.unique(group_copies(40, fewer))) == 1


def test_a_copy_has_to_stand_out_among_lookalikes():
    rng = np.random.default_rng(1)
    copies = rng.uniform(0.9, 1, 4000)  # more copies than lookalikes do not raise the limit
    assert copy_limit(np.concatenate([rng.normal(0.2, 0.08, 500), copies])) == MIN_DETAIL
    strict = copy_limit(np.concatenate([rng.normal(0.35, 0.1, 500), copies]))
    assert strict == pytest.approx(0.35 + 3.5 * 0.1, abs=0.04)
    assert copy_limit(np.array([])) == MIN_DETAIL


def test_identical_images_are_one_group_and_a_single_image_is_none():
    same = pd.DataFrame({"sha256": ["a"] * 500})
    found = find_copies(same, stack([portrait(1)] * 500))
    assert len(found) == 499 and len(np.unique(group_copies(500, found))) == 1
    alone = find_copies(same[:1], stack([portrait(1)]))
    assert alone.empty and list(alone.columns) == list(found.columns)
    assert duplicates_table(pd.DataFrame({"image_id": ["x"]}), np.array([0]), alone).empty


def test_blank_pictures_are_no_copies_and_are_not_compared(monkeypatch):
    blank = np.stack([np.full((64, 64, 3), shade, np.uint8) for shade in range(0, 250, 5)])
    blank[range(50), range(50), 5] += 3  # a speck of dust each: they all share a hash
    monkeypatch.setattr(duplicates, "_detail_chunk", None)  # would fail
    assert find_copies(pd.DataFrame({"sha256": [f"{k:02d}" for k in range(50)]}), stack(blank)).empty


# --- groups -----------------------------------------------------------------------------------------------


def test_groups_are_the_transitive_closure_of_pairs():
    pairs = pd.DataFrame({"first": [5, 0, 3, 1], "second": [6, 3, 5, 2]})
    group_id = group_copies(8, pairs)
    sets = {frozenset(np.flatnonzero(group_id == group).tolist()) for group in set(group_id)}
    assert sets == {frozenset({0, 3, 5, 6}), frozenset({1, 2}), frozenset({4}), frozenset({7})}
    assert group_copies(3, pairs[:0]).tolist() == [0, 1, 2]


def test_the_table_lists_members_with_their_closest_copy():
    faces = pd.DataFrame({"image_id": list("abcde")})
    pairs = pd.DataFrame(
        {"first": [0, 0, 2], "second": [2, 4, 4], "kind": ["near", "exact", "near"], "distance": [0.02, 0.0, 0.01]}
    ).assign(mirrored=[False, False, True])
    table = duplicates_table(faces, np.array([7, 1, 7, 2, 7]), pairs)
    assert table.to_numpy().tolist() == [
        ["a", 7, "exact", 0.0, "e", False], ["c", 7, "near", 0.01, "e", True], ["e", 7, "exact", 0.0, "a", False],
    ]  # fmt: skip
