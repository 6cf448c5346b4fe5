"""Several data sets in one training: weights, points that count, schemes that are mapped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.data.datamodule import FaceDataModule
from common.data.options import MixConfig, Source, SyntheticConfig
from common.data.synthetic import SyntheticFaces
from common.data.wrappers import MappedFaces, MaskedFaces, Mixture, chosen_points
from common.errors import LabError
from common.evaluation import load_data
from common.schemes import get_scheme
from tests.common.data.made_up import Flat

IBUG, WFLW = get_scheme("ibug68"), get_scheme("wflw98")


@pytest.mark.parametrize(("weight", "most"), [(1.0, 1), (2.0, 2), (0.5, 1), (0.3, 1), (1.7, 2), (0.01, 1)])
def test_every_face_is_seen_as_often_as_its_weight_says(weight: float, most: int) -> None:
    mixed = Mixture([(Flat(7), weight), (Flat(3), 1.0)])
    own = max(1, round(7 * weight))
    assert mixed.per_epoch() == own + 3
    seen: Counter[int] = Counter()
    for epoch in range(20):
        rows = mixed.drawn(5, epoch)
        assert len(rows) == len(set(rows)) == own + 3, "a place twice would have the same augmentation twice"
        places = [mixed.place(row) for row in rows]
        assert sorted(row for part, row in places if part == 1) == [0, 1, 2]
        counts = Counter(row for part, row in places if part == 0)
        assert max(counts.values()) <= most + 1
        seen += counts
        assert max(seen[row] for row in range(7)) - min(seen[row] for row in range(7)) <= 1
        np.testing.assert_array_equal(rows, mixed.drawn(5, epoch))
    assert not np.array_equal(mixed.drawn(5, 1), mixed.drawn(6, 1))


def test_a_place_holds_the_face_and_the_shape_of_its_set() -> None:
    one, other = SyntheticFaces(3, seed=1), SyntheticFaces(2, seed=2)
    mixed = Mixture([(one, 1.5), (other, 1.0)])
    shapes = mixed.shapes()
    assert len(mixed) == 3 * 3 + 2
    for row in (0, 4, 10):
        part, place = mixed.place(row)
        sample = (one, other)[part][place]
        np.testing.assert_array_equal(mixed[row].points, sample.points)
        if shapes is not None:
            np.testing.assert_allclose(shapes[row], sample.points, atol=1e-3)
    with pytest.raises(IndexError):
        mixed[11]


def test_only_named_points_count() -> None:
    faces = SyntheticFaces(2)
    curve = IBUG.curves[0]
    masked = MaskedFaces(faces, chosen_points([curve.name, IBUG.names[30]], IBUG))
    known = masked[0].annotated
    assert known is not None and set(np.flatnonzero(known)) == {*curve.points, 30}
    with pytest.raises(LabError, match=r"scheme ibug68 has no point or curve jow.*did you mean"):
        chosen_points(["jow"], IBUG)


def test_points_are_mapped_with_what_is_known_of_them() -> None:
    faces = SyntheticFaces(1, scheme="wflw98")
    mapped = MappedFaces(faces, IBUG)
    np.testing.assert_array_equal(mapped[0].points, WFLW.map_to("ibug68").apply(faces[0].points))
    assert mapped[0].visible.tolist() == [bool(faces[0].visible[i]) for (i,) in WFLW.map_to("ibug68").indices]
    partial = MappedFaces(MaskedFaces(faces, np.arange(98) >= 33), IBUG)[0].annotated
    assert partial is not None and not partial[:17].any() and partial[17:].all()


def module(workers: int = 0, **mix: Any) -> FaceDataModule:
    sources = [Source("synthetic", scheme="wflw98", weight=0.5, points=[IBUG.names[30]])]
    return FaceDataModule(
        synthetic=SyntheticConfig(6, 2), num_workers=workers, batch_size=3, mix=MixConfig(sources=sources, **mix)
    )


def test_weak_labels_train_only_what_they_label() -> None:
    data = module()
    data.setup("fit")
    weights = []
    for batch in data.train_dataloader():
        weights += batch.weight.numpy().tolist()
    counts = sorted(int(sum(row)) for row in weights)
    assert counts == [1, 1, 1, 68, 68, 68, 68, 68, 68]
    assert len(data.cropped("val")) == 2 and data.train_batch() == 3


def ids(data: FaceDataModule, epoch: int) -> list[tuple[str, float]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[union-attr, attr-defined]
    return [(name, round(float(points.sum()), 2)) for batch in loader
            for name, points in zip(batch.ids, batch.points, strict=True)]  # fmt: skip


def test_order_and_augmentation_depend_on_neither_workers_nor_a_resume() -> None:
    alone, shared, resumed = module(weight=1.5), module(2, weight=1.5), module(weight=1.5)
    for data in (alone, shared, resumed):
        data.setup("fit")
    assert ids(alone, 3) == ids(shared, 3) != ids(alone, 2)
    resumed.go_on_at(3, 3)
    assert ids(resumed, 3)[:6] == ids(alone, 3)[3:9]


def test_a_set_of_another_scheme_is_mapped_where_that_is_asked_for() -> None:
    drawn = SyntheticConfig(2, 2, 2)
    data = FaceDataModule(scheme="ibug68", mix=MixConfig(scheme="wflw98"), synthetic=drawn, num_workers=0)
    assert data.cropped("test").faces.scheme.name == "ibug68" and data.faces("test").scheme.name == "wflw98"
    assert "every second jaw point" in data.map_words() and "% of the eye corners' distance" in data.map_words()
    with pytest.raises(LabError, match="no map from scheme cofw29 to ibug68"):
        FaceDataModule(mix=MixConfig(scheme="cofw29")).map_words()


def test_a_scheme_that_does_not_fit_names_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaceDataModule, "_read", lambda self, split, source: SyntheticFaces(1, scheme="wflw98"))
    with pytest.raises(LabError, match=r"has 98 landmarks \(wflw98\), but .* ibug68; map them by --data.mix.scheme"):
        FaceDataModule().cropped("train")


def test_a_file_says_what_is_mixed(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: {mix: {weight: 2, sources: [{dataset: w300, root: there, points: [nose_tip]}]}}\n")
    mix = load_data(path).mix
    assert mix == MixConfig(weight=2, sources=[Source("w300", "there", points=["nose_tip"])])
    path.write_text("data: {mix: {sources: [{dataset: w300, wait: 2}]}}\n")
    with pytest.raises(LabError, match="wait"):
        load_data(path)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1000.0, float("nan")])
def test_a_weight_is_positive_and_sane(weight: float) -> None:
    with pytest.raises(LabError, match="weight must be above 0"):
        MixConfig(sources=[Source("wflw", weight=weight)])
