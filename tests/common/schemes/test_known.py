"""Properties that every landmark scheme must have, and the official flip tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import LabError
from common.schemes import MAPS, SCHEMES, LandmarkScheme, get_scheme
from tests.conftest import SHARED, needs_shared

ALL = list(SCHEMES.values())


@pytest.mark.parametrize("scheme", ALL, ids=lambda s: s.name)
def test_mirror_and_coverage(scheme: LandmarkScheme) -> None:
    mirror = np.array(scheme.mirror)
    np.testing.assert_array_equal(mirror[mirror], np.arange(scheme.num_points))
    on_curves = {p for curve in scheme.curves for p in curve.points}
    assert on_curves | set(scheme.singles) == set(range(scheme.num_points))
    assert not on_curves & set(scheme.singles)
    assert len(scheme.names) == scheme.num_points == len(set(scheme.names)) and all(scheme.names)
    left, right = scheme.corners
    assert mirror[left] == right
    assert sorted(mirror[list(scheme.pupils[0])]) == sorted(scheme.pupils[1])


@pytest.mark.parametrize("scheme", ALL, ids=lambda s: s.name)
def test_curves_mirror_onto_curves(scheme: LandmarkScheme) -> None:
    mirror = np.array(scheme.mirror)
    shapes = {curve.points for curve in scheme.curves}
    for curve in scheme.curves:
        image = tuple(mirror[list(curve.points)].tolist())
        assert image in shapes or image[::-1] in shapes, curve.name
    assert all(0 <= a < scheme.num_points and a != b for a, b in scheme.edges)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize(("name", "count"), [("wflw98", 98), ("ibug68", 68), ("cofw29", 29), ("aflw19", 19)])
def test_official_flip_tables(name: str, count: int) -> None:
    table = np.load(SHARED / "golden/awing/ops.npz", allow_pickle=False)[f"flip_index{count}"]
    np.testing.assert_array_equal(get_scheme(name).mirror, table)


@pytest.mark.parametrize("found", list(MAPS.values()), ids=lambda m: f"{m.source}-{m.target}")
def test_maps_commute_with_the_mirror(found: object) -> None:
    from common.schemes import SchemeMap

    assert isinstance(found, SchemeMap) and found.meaning
    source, target = get_scheme(found.source), get_scheme(found.target)
    assert len(found.indices) == target.num_points
    points = np.random.default_rng(0).normal(size=(2, source.num_points, 2))
    mapped = found.apply(points)
    np.testing.assert_allclose(found.apply(points[:, list(source.mirror)]), mapped[:, list(target.mirror)])
    np.testing.assert_allclose(found.apply(torch.from_numpy(points)).numpy(), mapped)


def test_unknown_names_are_told() -> None:
    with pytest.raises(LabError, match="unknown landmark scheme dlib5; known are wflw98"):
        get_scheme("dlib5")
    with pytest.raises(LabError, match="no map from scheme ibug68 to wflw98"):
        get_scheme("ibug68").map_to("wflw98")
    with pytest.raises(LabError, match="has no curve ear"):
        get_scheme("ibug68").curve("ear")
    same = get_scheme("ibug68").map_to("ibug68")
    assert same.indices == tuple((i,) for i in range(68))
