"""One warp per sample: pixels and points move together, and draws depend on (seed, epoch, index) alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from awing.original import FRAME, UNIT, face_window
from common.data.augment import PhotometricAugment, mix_channels
from common.data.base import FaceDataset, check_box, check_points
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig, crop_sample, grown_box, square_side, warp_image
from common.errors import LabError
from common.files.images import decode_image
from common.geometry import apply_affine, crop_matrix, tight_box
from common.schemes import get_scheme
from common.types import FaceSample
from tests.conftest import needs_shared
from tests.reference.awing_original import convert_wflw, crop_frame

SCHEME = get_scheme("ibug68")


def make_sample(index: int = 0) -> FaceSample:
    rng = np.random.default_rng(index)
    points = rng.uniform(60, 140, (68, 2)).astype(np.float32)
    image = np.zeros((200, 220, 3), np.uint8)
    x, y = points[30]
    grid_y, grid_x = np.mgrid[:200, :220]
    image[:] = (255 * np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / 32))[..., None].astype(np.uint8)
    box = np.array([60, 60, 140, 140], np.float32)
    return FaceSample(
        image, points, np.ones(68, bool), box, np.array([10, 5, -3], np.float32), ("odd",), f"face{index}"
    )


class Faces(FaceDataset):
    name, scheme, subset_names = "fake", SCHEME, ("odd", "even")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> FaceSample:
        return make_sample(index)


CONFIG = CropConfig(size=128, rotation=40, scale=0.2, shift=0.05, flip=0.5)


def test_pixels_move_with_the_points() -> None:
    """A bright spot drawn on landmark 30 is still under landmark 30 (or its mirror) after any augmentation."""
    for seed in range(12):
        face = crop_sample(make_sample(), SCHEME, CONFIG, (), np.random.default_rng(seed))
        gray = face.image[..., 0].astype(np.float64)
        grid_y, grid_x = np.mgrid[:128, :128]
        centre = np.array([(gray * grid_x).sum(), (gray * grid_y).sum()]) / gray.sum()
        assert np.abs(centre - face.points[30]).max() < 0.35  # landmark 30 is its own mirror


def test_shear_and_stretch_move_pixels_and_points_together() -> None:
    config = CropConfig(size=128, rotation=20, flip=0.5, shear=0.3, stretch=0.4, chance=0.5)
    plain = crop_sample(make_sample(), SCHEME, config.still()).to_image
    unchanged, shapes = 0, []
    for seed in range(40):
        face = crop_sample(make_sample(), SCHEME, config, (), np.random.default_rng(seed))
        unchanged += np.array_equal(face.to_image, plain)
        gray = face.image[..., 0].astype(np.float64)
        grid_y, grid_x = np.mgrid[:128, :128]
        centre = np.array([(gray * grid_x).sum(), (gray * grid_y).sum()]) / gray.sum()
        assert np.abs(centre - face.points[30]).max() < 0.4
        large, small = np.linalg.svd(face.to_image[:, :2].astype(np.float64))[1]
        shapes.append(large / small)
        assert np.abs(apply_affine(face.to_image, face.points) - face.image_points).max() < 1e-3
    assert 1.4 < max(shapes) < 2.6 and min(shapes) == pytest.approx(1)
    assert 10 <= unchanged <= 30  # chance: half of the samples get the plain crop
    with pytest.raises(LabError, match="chance"):
        CropConfig(chance=1.5)


def test_a_crop_without_shear_draws_as_before() -> None:
    """The numbers behind rotation, scale, shift and flip must not move when the further ones are switched on."""
    old = crop_sample(make_sample(), SCHEME, CONFIG, (), np.random.default_rng(4))
    new = crop_sample(make_sample(), SCHEME, replace(CONFIG, stretch=1e-9), (), np.random.default_rng(4))
    np.testing.assert_allclose(old.to_image, new.to_image, atol=1e-4)


def test_to_image_brings_every_point_back() -> None:
    for seed in range(20):
        face = crop_sample(make_sample(seed), SCHEME, CONFIG, (), np.random.default_rng(seed))
        assert np.abs(apply_affine(face.to_image, face.points) - face.image_points).max() < 1e-3


def test_large_shrink_is_averaged_and_stays_aligned() -> None:
    image = np.zeros((1024, 1024, 3), np.uint8)
    image[600:616, 400:416] = 255
    matrix = crop_matrix(np.array([511.5, 511.5]), 1024, 64)
    crop = warp_image(image, matrix, 64)[..., 0].astype(np.float64)
    grid_y, grid_x = np.mgrid[:64, :64]
    centre = np.array([(crop * grid_x).sum(), (crop * grid_y).sum()]) / crop.sum()
    np.testing.assert_allclose(centre, apply_affine(matrix, np.array([[407.5, 607.5]]))[0], atol=0.05)
    assert crop.sum() == pytest.approx(255, rel=0.1)  # 16 x 16 bright pixels become one


def test_draws_depend_on_seed_epoch_and_index_alone() -> None:
    first, again = CroppedFaces(Faces(), CONFIG, seed=3), CroppedFaces(Faces(), CONFIG, seed=3)
    for index in (5, 0, 3):
        np.testing.assert_array_equal(first[index].image, again[index].image)
    before = first[2].to_image
    first.set_epoch(1)
    assert not np.array_equal(before, first[2].to_image)
    still = CroppedFaces(Faces(), CONFIG.still())
    np.testing.assert_array_equal(still[1].to_image, still[1].to_image)


def test_collate_and_batch() -> None:
    data = CroppedFaces(Faces(), CONFIG.still())
    batch = Collate(("odd", "even"))([data[0], data[1]])
    assert batch.image.shape == (2, 3, 128, 128) and batch.image.dtype == torch.uint8
    assert batch.subsets.tolist() == [[True, False]] * 2 and batch.ids == ["face0", "face1"] and len(batch) == 2
    sent = copy.deepcopy(batch)  # by what a loader's worker sends
    assert sent.ids == batch.ids and all(
        torch.equal(getattr(sent, name), getattr(batch, name))
        for name in ("image", "points", "to_image", "rows", "norm")
    )


def test_a_map_to_whole_pixels_takes_them_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    moved = np.array([[1.0, 0, -3], [0, 1, -20]])
    for nearest in (False, True):
        part = warp_image(image, moved, 64, nearest=nearest)
        assert part.flags.owndata and np.array_equal(part, image[20:84, 3:67])
        out = np.empty((64, 64, 3), np.uint8)
        assert warp_image(image, moved, 64, out, nearest) is out and np.array_equal(out, part)
        beyond = warp_image(image, moved - [[0, 0, 4], [0, 0, 0]], 64, nearest=nearest)  # black outside
        assert (beyond[:, 63] == 0).all() and np.array_equal(beyond[:, :63], image[20:84, 7:70])
    half = warp_image(image, moved - [[0, 0, 0.5], [0, 0, 0]], 64)
    assert np.abs(half.astype(float) - (image[20:84, 3:67].astype(float) + image[20:84, 4:68]) / 2).max() <= 1


def test_augmentation_changes_colours_only_and_is_repeatable() -> None:
    data = CroppedFaces(Faces(), CONFIG.still())
    batch = Collate()([data[i] for i in range(4)])
    augment = PhotometricAugment(0.2, 0.3, 0.3, 0.3, 0.2, blur=1.0, noise=1.0, occlusion=1.0)
    one, two = (augment(batch, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one.image, two.image) and one.image.dtype == torch.uint8
    assert not torch.equal(one.image, batch.image) and torch.equal(one.points, batch.points)
    assert torch.equal(PhotometricAugment()(batch).image, batch.image)
    with torch.autocast("cpu", torch.bfloat16):  # as training with bf16-mixed, which ended with an error
        assert torch.equal(augment(batch, torch.Generator().manual_seed(7)).image, one.image)
    with pytest.raises(LabError, match="augment.blur must be in"):
        PhotometricAugment(blur=2)


def test_channels_are_mixed_as_one_change_after_the_other() -> None:
    """Contrast and brightness first, then saturation or grey, written out step by step."""
    image = torch.rand(3, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    gain, offset = (
        torch.tensor([1.3, 0.7, 1.0])[:, None, None, None],
        torch.tensor([0.1, -0.2, 0.0])[:, None, None, None],
    )
    grayness = torch.tensor([0.4, -0.3, 1.0])[:, None, None, None]
    changed = image * gain
    luma = changed.mean(dim=1, keepdim=True)
    expected = luma + (changed - luma) * (1 - grayness) + offset
    found = mix_channels(image, gain, offset, grayness)
    torch.testing.assert_close(found, expected)
    assert found[2].std(dim=0).max() < 1e-6, "grey pictures have one value in all channels"


@pytest.mark.parametrize("kind", ["noise", "occlusion"])
def test_chances_are_kept_and_other_faces_left_alone(kind: str) -> None:
    data = CroppedFaces(Faces(), CONFIG.still())
    batch = Collate()([data[i % 4] for i in range(64)])
    often: dict[str, Any] = {kind: 0.3}
    never: dict[str, Any] = {kind: 1e-9}
    changed = PhotometricAugment(**often)(batch, torch.Generator().manual_seed(3)).image != batch.image
    faces = changed.flatten(1).float().mean(dim=1)
    assert 0.1 < (faces > 0).float().mean() < 0.5
    assert PhotometricAugment(**never)(batch).image.equal(batch.image)


def test_bad_input_is_told_in_one_line() -> None:
    with pytest.raises(LabError, match="67 landmarks, but scheme ibug68 has 68"):
        check_points(np.zeros((67, 2)), SCHEME, "a.pts:4")
    bad = np.zeros((68, 2))
    bad[5, 1] = np.inf
    with pytest.raises(LabError, match="a.pts:4: landmark 5 is not finite"):
        check_points(bad, SCHEME, "a.pts:4")
    with pytest.raises(LabError, match="no area"):
        check_box(np.array([3, 3, 3, 9]), "list.txt:1")
    with pytest.raises(LabError, match="does not decode"):
        decode_image(b"no picture", "x.jpg")
    sample = make_sample()
    sample.points[36] = sample.points[45]
    # Training divides by no such length, and a test says which face has none (tests/common/test_evaluation.py).
    assert np.isnan(crop_sample(sample, SCHEME, CONFIG).norm)


def test_decode_gives_rgb() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 2] = 200  # red in OpenCV's order
    _, data = cv2.imencode(".png", image)
    assert decode_image(data.tobytes(), "x")[0, 0].tolist() == [200, 0, 0]


def test_memory_of_a_batch_is_used_again_only_when_nobody_holds_it() -> None:
    data = CroppedFaces(Faces(), CONFIG, seed=1)
    held = Collate()(data.__getitems__([0, 1])).image
    copy, address = held.clone(), held.data_ptr()
    others = [Collate()(data.__getitems__([2, 3])).image for _ in range(6)]
    assert torch.equal(held, copy) and address not in {other.data_ptr() for other in others}
    part = held[1:, :, 4:]  # a view is enough to hold the block
    del held
    assert Collate()(data.__getitems__([2, 3])).image.data_ptr() != address
    del part
    data = CroppedFaces(Faces(), CONFIG, seed=1)
    addresses = {Collate()(data.__getitems__([k, k + 1])).image.data_ptr() for k in range(3)}
    assert len(addresses) == 1


@needs_shared
@pytest.mark.golden
def test_the_crop_grows_as_the_official_two_crops_do(shared_dir: Path) -> None:
    """On the genuine lines of WFLW, and on boxes that shrink until landmarks leave them."""
    root = shared_dir / "data" / "samples" / "wflw"
    config, grew = CropConfig(size=256, box_scale=1.344, side_rule="mean", fit=True), 0
    close: list[bool] = []
    photo = np.zeros((3000, 3000, 3), np.uint8)
    for path in sorted(root.rglob("list_98pt_rect_attr_*.txt")):
        for line in filter(str.strip, path.read_text().splitlines()):
            values = np.array(line.split()[:200], float)
            # Four times as large, so that whole pixels of the official code matter less, and far from every edge.
            move = 1500 - 4 * (values[196:198] + values[198:]) / 2
            points, given = 4 * values[:196].reshape(-1, 2) + move, 4 * values[196:] + np.tile(move, 2)
            for share in (1.0, 0.8, 0.6, 0.45):
                middle, half = (given[:2] + given[2:]) / 2, (given[2:] - given[:2]) / 2 * share
                box = np.round(np.concatenate([middle - half, middle + half]))
                frame, moved, divisor = convert_wflw(photo, points, box)
                _, _, scale = crop_frame(frame, moved)
                sides = face_window(box)[1]
                official = UNIT * sides / divisor * (scale * UNIT / FRAME)
                grown = grown_box(box, points, config, "face")
                close.append(square_side(grown, "mean") * 1.344 == pytest.approx(official, rel=0.012))
                assert close[-1] or share < 1, path.name
                grew += bool(divisor < 250 or scale > 2)
    # The official code cuts whole pixels, so that a landmark within a pixel of a limit may take the next window.
    assert grew > 20 and np.mean(close) > 0.93
    assert config.still().fit and "grown until all landmarks fit" in config.description("box")
    with pytest.raises(LabError, match="face: no window"):
        grown_box(np.array([0.0, 0, 10, 10]), np.array([[1e5, 0.0]]), config, "face")


@needs_shared
@pytest.mark.golden
def test_wflw_s_boxes_are_not_the_landmarks_boxes(shared_dir: Path) -> None:
    """The list's rectangle is a detector's: SPIGA's crop of the genuine lines starts from the landmarks instead."""
    root = shared_dir / "data" / "samples" / "wflw"
    lists = sorted(root.rglob("list_98pt_rect_attr_*.txt"))
    words = [line.split() for path in lists for line in path.read_text().splitlines() if line.strip()]
    assert words
    differences = []
    for line in words:
        points = np.array(line[:196], float).reshape(-1, 2)
        box = np.array(line[196:200], float)
        differences.append(np.abs(tight_box(points) - box).max())
    assert np.median(differences) > 2, "were they the tight boxes, they would differ by less than a pixel"
