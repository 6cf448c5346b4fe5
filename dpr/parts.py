"""Which landmarks make a part of the face, read off the scheme's names, and the mean parts that follow from a face."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from common.data.synthetic import DRAWN, mean_face
from common.errors import LabError
from common.schemes import Indices, LandmarkScheme

# A point belongs to the part whose prefix its name has; jaw and chin are refined by nobody.
PREFIXES: dict[str, tuple[str, ...]] = {
    "left_eye": ("left_brow", "left_eye", "left_pupil"),
    "right_eye": ("right_brow", "right_eye", "right_pupil"),
    "nose": ("nose",),
    "mouth": ("outer_lip", "inner_lip", "mouth"),
}
MARGIN = 1.2  # side of a mean part's frame over the longer side of its points


def part_indices(scheme: LandmarkScheme) -> tuple[Indices, ...]:
    """Return each part's landmarks, ascending: the order of the networks' outputs.

    Parts of known schemes come in the order of PREFIXES, those of the user's own scheme are what its file says.

    Raises:
        LabError: the scheme has no parts, or no landmarks, or only one, in some part.
    """
    if scheme.text:
        if not scheme.parts:
            raise LabError(f"scheme {scheme.name} has no curves besides the jaw, and so no parts; add `curves` or "
                           "`parts` to its file")  # fmt: skip
        return scheme.parts
    parts = tuple(
        tuple(index for index, name in enumerate(scheme.names) if name.startswith(prefixes))
        for prefixes in PREFIXES.values()
    )
    for name, indices in zip(PREFIXES, parts, strict=True):
        if len(indices) < 2:
            raise LabError(f"scheme {scheme.name} has {len(indices)} landmarks in part {name}; two are needed")
    return parts


def mean_part(face: Tensor, indices: Indices) -> Tensor:
    """Return the mean part (n, 2) in its own unit square, for a mean face (L, 2) in any frame.

    The bounding box's centre comes to the middle, and its longer side spans 1 / 1.2 of the square (checked against
    the official mean parts, which follow from the official mean face this way).
    """
    points = face[list(indices)]
    low, high = points.amin(0), points.amax(0)
    return (points - (low + high) / 2) / (MARGIN * (high - low).amax()) + 0.5


def neutral_face(scheme: LandmarkScheme) -> np.ndarray:
    """Return a stand-in for the mean face (L, 2), any frame: that of the synthetic faces.

    Training puts the training set's own mean in its place. Schemes that the synthetic head does not draw get points
    on a circle, which only have to be distinct until then.
    """
    if scheme.name in DRAWN:
        return mean_face(scheme.name)[:, :2]
    angle = np.linspace(0, 2 * np.pi, scheme.num_points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)
