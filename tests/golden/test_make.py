"""The golden numbers are the complete recordings' own, small, and readable without pickle."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import needs_shared
from tests.golden.make import METHODS, main
from tests.golden.values import FOLDER, load, parameter, picture

MOST_BYTES = 3_000_000
KERNEL = [[0.15634273, -2.3791387, -0.32370567], [1.6269528, 1.3006321, 2.0909305]]
CORNERS = [[1.0, 0.0], [0.88978428, 0.51063454]]


def test_files_are_few_and_small() -> None:
    files = list(FOLDER.glob("*.npz"))
    apart = {"dpr_filled", "spiga_face"}  # the README says how
    assert {path.stem for path in files} == {*METHODS, *apart}
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    for name in (path.stem for path in files):
        assert all(value.dtype.kind in "iufU" for value in load(name).values())  # numbers and names, no objects


def test_numbers_of_the_formulas() -> None:
    """The first values, written down once: NumPy's stream must be the one that the recordings were made with."""
    np.testing.assert_allclose(parameter("conv1.weight", (2, 3)), KERNEL, rtol=1e-6)
    np.testing.assert_allclose(picture(7, (1, 2, 2))[0], CORNERS, rtol=1e-6)
    assert parameter("bn.num_batches_tracked", ()).dtype == np.int64


@needs_shared
@pytest.mark.golden
def test_numbers_are_those_of_the_complete_recordings(shared_dir: Path) -> None:
    assert main([str(shared_dir / "golden"), "--check"]) == 0


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("layout", ["OIHW", "HWIO"])
def test_formulas_are_those_of_the_complete_recordings(shared_dir: Path, layout: str) -> None:
    spec = importlib.util.spec_from_file_location("golden_fill", shared_dir / "golden" / "fill.py")
    assert spec is not None and spec.loader is not None
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    for name, shape in (("stem.weight", (4, 3, 5, 7)), ("fc/weights", (6, 4)), ("bn_gamma", (9,)), ("bn.bias", (9,))):
        ours = parameter(name, shape, inputs_first=layout == "HWIO")
        np.testing.assert_array_equal(ours, official.fill(name, shape, layout=layout))
    np.testing.assert_array_equal(picture(5, (2, 3, 20, 31)), official.image(5, (2, 3, 20, 31)))


@needs_shared
def test_no_mean_face_of_the_authors_is_among_the_numbers(shared_dir: Path) -> None:
    faces = [*shared_dir.glob("golden/spiga/mean_face_*.npy"), *shared_dir.glob("golden/dpr/mean_98_*.npy")]
    assert len(faces) == 7
    official = [np.load(path, allow_pickle=False).ravel() for path in faces]
    for name in (path.stem for path in FOLDER.glob("*.npz")):
        for key, value in load(name).items():
            same = [face for face in official if value.dtype.kind == "f" and face.size == value.size]
            assert not any(np.allclose(face, value.ravel(), atol=1e-3) for face in same), f"{name}: {key}"
