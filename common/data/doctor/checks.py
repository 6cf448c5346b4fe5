"""The doctor's checks. Each gets what was seen of a split's faces and returns what is wrong; none reads a file."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.data.base import check_box_in
from common.data.doctor.look import Look, affine_gap
from common.data.doctor.official import COUNTS, KNOWN
from common.data.synthetic import mean_face
from common.errors import LabError
from common.geometry import tight_box
from common.schemes import LandmarkScheme

FAR = 0.5  # how far outside the picture a point may be, as a share of the face's longer side
LEAST_OVERLAP = 0.2  # intersection over union of the box and the landmarks' box
STRANGE = 0.2  # misfit to the mean face, an affine map apart, from which a face's points are not those of a face
CLEARLY = 0.5  # a reflected face fits at least this much better than the face as it is
SWAPPED = 0.15  # asymmetry of the mean face, an affine map apart, from which two of its points count as exchanged
SHIFTED = 0.3  # pixels
BETTER = 0.25  # gain in correlation with the mean picture by which mirrored points fit their picture better
MIRRORED = 0.05  # of a split's faces; of sound sets, under 1 % (turned and half-lit faces) seem mirrored by that gain
FACES_FOR_MEAN = 20  # faces without which a mean says nothing
MEAN_FACES = {68: "ibug68", 98: "wflw98"}  # landmarks -> scheme whose mean face is known
BITS = 26  # of the 240 bits of a perceptual hash that two near-identical pictures may differ in
ALIKE = 0.97  # correlation of the thumbnails of near-identical pictures
SHARE_OF_TWINS = 0.01  # of a split's faces: more of them, repeated or near-identical to training ones, are a fault


@dataclass(frozen=True)
class Fault:
    """Something wrong with a set.

    Attributes:
        kind: one of few words, by which faults are counted.
        text: what, where and what to do.
        fatal: False for what is worth knowing, but no reason to refuse the set.
    """

    kind: str
    text: str
    fatal: bool = True


def counts(name: str, own: str, seen: Sequence[Look]) -> list[Fault]:
    """Compare the faces of a split, called `own` by the set, with the official counts."""
    expected = COUNTS.get(name, {}).get(own)
    if expected is None:
        return []
    have = Counter(subset for face in seen for subset in face.subsets)
    have[""] = len(seen)
    faults = []
    for subset, count in expected.items():
        if have[subset] != count:
            part = f"subset {subset}" if subset else "all faces"
            hint = "; one face less: was the first row of a list lost as a header?" if have[subset] == count - 1 else ""
            faults.append(Fault("counts", f"{own}: {part}: {have[subset]} faces, officially {count}{hint}"))
    return faults


def boxes(seen: Sequence[Look]) -> list[Fault]:
    """Boxes that cannot be those of their faces."""
    faults = []
    for face in seen:
        try:
            check_box_in(face.box, *face.size, face.id)
        except LabError as error:
            faults.append(Fault("box", str(error)))
            continue
        overlap = _overlap(face.box, tight_box(face.points[face.known]))
        if overlap < LEAST_OVERLAP:
            text = f"{face.id}: box {face.box.round().tolist()} is not where the landmarks are (overlap {overlap:.2f})"
            faults.append(Fault("box", text))
    return faults


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod(np.maximum(high - low, 0)))
    both = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common
    return common / both if both > 0 else 0.0


def outside(seen: Sequence[Look]) -> list[Fault]:
    """Faces with points far outside their pictures, or most of them outside."""
    faults = []
    for face in seen:
        points, (height, width) = face.points[face.known], face.size
        beyond = np.maximum(-0.5 - points, points - [width - 0.5, height - 0.5]).max(axis=1)
        far, side = float(beyond.max()), float(np.ptp(points, axis=0).max())
        if far > FAR * side or (beyond > 0).mean() > 0.5:
            text = f"{face.id}: {int((beyond > 0).sum())} landmarks outside the picture of {width} x {height} pixels"
            faults.append(Fault("outside", f"{text}, up to {far:.0f} pixels"))
    return faults


def shapes(seen: Sequence[Look], reference: np.ndarray, scheme: LandmarkScheme, split: str) -> list[Fault]:
    """Points in the order of another scheme, mirrored points, and single faces whose points are none of a face's."""
    left, right = (reference[i] for i in scheme.corners)
    middle, across = (left + right) / 2, right - left
    if across[0] * (-middle[1]) - across[1] * (-middle[0]) < 0:  # the face's middle must be below its eyes
        text = f"{split}: landmarks {scheme.corners[0]} and {scheme.corners[1]} (outer eye corners) have changed sides"
        return [Fault("mirrored", f"{text} in most faces: the points are mirrored without their order, or numbered "
                                  f"otherwise than scheme {scheme.name}")]  # fmt: skip
    faults = []
    # Else only that it is not symmetric shows, and of points on its middle line nothing.
    like = MEAN_FACES.get(scheme.num_points)
    expected = mean_face(like) if like else (reference * [-1, 1])[list(scheme.mirror)]
    gap = np.hypot(*affine_gap(expected, reference).T)
    if len(seen) >= FACES_FOR_MEAN and (gap > SWAPPED).any():
        rows = ", ".join(map(str, np.flatnonzero(gap > SWAPPED).tolist()))
        text = (
            f"{split}: the mean face is not that of scheme {scheme.name} at landmarks {rows}: they have another order"
        )
        faults.append(Fault("permuted", text))
    for face in seen:
        if face.reflected < CLEARLY * face.residual and face.residual > STRANGE / 3:
            text = f"{face.id}: left and right landmarks have changed sides (mirrored without their order)"
            faults.append(Fault("mirrored", text))
        elif face.bent > STRANGE:
            text = f"{face.id}: the landmarks form no face (misfit {face.bent:.2f}); their order or a number is wrong"
            faults.append(Fault("permuted", text))
    return faults


def fit_to_pictures(seen: Sequence[Look], split: str) -> list[Fault]:
    """Landmarks that fit the mirrored pictures better than the pictures, in more faces than by chance."""
    if len(seen) < FACES_FOR_MEAN:
        return []
    own, other = _normal([face.face for face in seen]), _normal([face.mirrored for face in seen])
    mean = np.median(own if _spread(own) > _spread(other) else other, axis=0)
    mean = (mean - mean.mean()) / max(float(mean.std()), 1e-6)
    here, there = (values @ mean / len(mean) for values in (own, other))
    rows = np.flatnonzero((there > here + BETTER) & (there > 0.5))
    if len(rows) <= MIRRORED * len(seen):
        return []
    text = f"{split}: the landmarks of {len(rows)} faces fit the mirrored picture better, first {seen[rows[0]].id}"
    return [Fault("mirrored", f"{text}; mirror the pictures or the landmarks")]


def _spread(pictures: np.ndarray) -> float:
    """Return the contrast of the mean of normalised pictures (N, P): 1 where they are equal, 0 where they are noise."""
    return float(np.median(pictures, axis=0).std())


def _normal(pictures: list[np.ndarray]) -> np.ndarray:
    values = np.array(pictures, np.float32).reshape(len(pictures), -1)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(values.std(axis=1, keepdims=True), 1e-6)


def index_base(name: str, seen: Sequence[Look]) -> tuple[list[Fault], int]:
    """Compare faces whose place is known; return the faults and how many faces were compared."""
    known, gaps = KNOWN.get(name.removesuffix("_3d"), {}), defaultdict[str, list[np.ndarray]](list)
    for face in seen:
        stem = face.id.rpartition(".")[0] or face.id
        for key in (stem, stem.partition("/")[2]):  # lists put a face's number before the photograph
            if key in known and face.known.all():
                gaps[key].append(face.points.mean(axis=0) - known[key])
    nearest = {key: min(found, key=lambda gap: float(np.abs(gap).max())) for key, found in gaps.items()}
    moved = {key: gap for key, gap in nearest.items() if np.abs(gap).max() > SHIFTED}
    if not moved:
        return [], len(nearest)
    gap = np.median(list(moved.values()), axis=0)
    same = all(np.abs(other - gap).max() < SHIFTED for other in moved.values())
    if same and np.abs(np.abs(gap) - 1).max() < SHIFTED:
        text = f"{len(moved)} of {len(nearest)} known faces are moved by {gap[0]:+.1f}, {gap[1]:+.1f} pixels"
        return [Fault("index base", f"{text}: coordinates that count from 0 and from 1 were mixed")], len(nearest)
    names = ", ".join(f"{key} by {gap[0]:+.1f}, {gap[1]:+.1f}" for key, gap in moved.items())
    return [Fault("index base", f"known faces are elsewhere: {names} pixels")], len(nearest)


def repeated(seen: Sequence[Look], split: str) -> list[Fault]:
    """Ids that are equal but for their Unicode form, and faces that a split has twice."""
    faults = []
    for name, count in Counter(unicodedata.normalize("NFC", face.id) for face in seen).items():
        if count > 1:
            faults.append(Fault("repeated", f"{split}: id {name} names {count} faces (perhaps in two Unicode forms)"))
    twice = []
    for one, other in _alike(seen, seen, _photo):
        first, second = seen[one], seen[other]
        side = float(np.ptp(first.points, axis=0).max())
        if one < other and first.size == second.size and np.abs(first.points - second.points).mean() < 0.05 * side:
            twice.append(f"{split}: {first.id} and {second.id} are one face")
    fatal = len(twice) > SHARE_OF_TWINS * len(seen)
    return faults + [Fault("repeated", text, fatal) for text in twice]


def twins(train: Sequence[Look], other: Sequence[Look], split: str) -> list[Fault]:
    """Faces of another split whose photograph, or whose face, is near-identical to one of training."""
    found: dict[str, str] = {}
    for what, view in (("photograph", _photo), ("face", _face)):
        for row, twin in _alike(other, train, view):
            found.setdefault(other[row].id, f"{split} {other[row].id} and train {train[twin].id}: one {what}")
    fatal = len(found) > SHARE_OF_TWINS * len(other)
    return [Fault("near-identical", text, fatal) for text in found.values()]


def _photo(face: Look) -> np.ndarray:
    return face.photo


def _face(face: Look) -> np.ndarray:
    return face.face


def _hash(pictures: list[np.ndarray]) -> np.ndarray:
    """Return a difference hash of 240 bits of each thumbnail as (N, 4) words of 64 bits."""
    small = np.array(pictures, np.float32).reshape(len(pictures), 16, 2, 16, 2).mean(axis=(2, 4))
    bits = small[:, :, 1:] > small[:, :, :-1]
    packed = np.packbits(bits.reshape(len(pictures), -1), axis=1)
    return np.pad(packed, ((0, 0), (0, 32 - packed.shape[1]))).view(np.uint64)


def _alike(some: Sequence[Look], others: Sequence[Look], view: Callable[[Look], np.ndarray]) -> list[tuple[int, int]]:
    """Return pairs of near-identical thumbnails: the hash finds them, the correlation confirms them."""
    if not some or not others:
        return []
    mine, theirs = _hash([view(face) for face in some]), _hash([view(face) for face in others])
    pairs = []
    for start in range(0, len(mine), 256):
        apart = np.bitwise_count(mine[start : start + 256, None] ^ theirs[None]).sum(axis=2, dtype=np.int64)
        for row, column in np.argwhere(apart <= BITS).tolist():
            if some[start + row] is others[column]:
                continue
            one, two = _normal([view(some[start + row]), view(others[column])])
            if one @ two / len(one) > ALIKE:
                pairs.append((start + row, column))
    return pairs
