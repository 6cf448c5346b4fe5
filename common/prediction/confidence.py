"""What a method's scores mean: the error to be expected, in percent of the distance of the outer eye corners.

A score has a scale of its own (height of a heatmap's peak, predicted error, disagreement of two stages); larger is
surer. On faces that were not trained on, errors are fitted to it by a falling map: one for a face's mean score, one for
a point's, whose errors are first divided by the point's usual share (points of the outline are always worse than eye
corners). Both say something about a point; the geometric mean of the two is expected. Stored with the weights.

Symbols: N faces, L points.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from common.errors import LabError

LARGEST_TRUSTED = 8.0  # percent of the eye distance; a larger expected error is warned of
BINS = 40  # at most so many knots of a map
LEAST = 6  # errors that a knot stands for, at least


@dataclass(frozen=True)
class Falling:
    """A map that never rises, linear between knots and constant beyond them.

    Attributes:
        scores: rising.
        errors: falling, percent.
    """

    scores: tuple[float, ...]
    errors: tuple[float, ...]

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Return the expected errors of scores of any shape."""
        return np.interp(score, self.scores, self.errors)

    @classmethod
    def fit(cls, scores: np.ndarray, errors: np.ndarray) -> Falling:
        """Return the falling map of least squares through means of equally many neighbours, of two arrays (K,).

        Raises:
            LabError: there are fewer errors than a map wants, or numbers that are not finite.
        """
        if len(scores) < 2 * LEAST or not (np.isfinite(scores).all() and np.isfinite(errors).all()):
            raise LabError(f"expected errors need at least {2 * LEAST} finite scores and errors, got {len(scores)}")
        from scipy.optimize import isotonic_regression  # here: prediction needs no scipy

        parts = np.array_split(np.argsort(scores, kind="stable"), min(BINS, len(scores) // LEAST))
        where = np.array([scores[part].mean() for part in parts])
        means = np.array([errors[part].mean() for part in parts])
        weights = np.array([len(part) for part in parts], float)
        fitted = isotonic_regression(means, weights=weights, increasing=False).x
        return cls(tuple(np.round(where, 6).tolist()), tuple(np.round(fitted, 3).tolist()))


@dataclass(frozen=True)
class Confidence:
    """Expected errors of one file of weights.

    Attributes:
        face: from a face's mean score to its mean error.
        point: from a point's score to its error over its share.
        shares: (L,) usual error of each point over the mean of all.
        faces: on how many faces it was fitted.
    """

    face: Falling
    point: Falling
    shares: tuple[float, ...]
    faces: int

    def expected(self, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the expected errors of faces (N,) and of their points (N, L), percent, of scores (N, L)."""
        face = self.face(score.mean(axis=1))
        shares = np.asarray(self.shares)
        return face, np.sqrt(face[:, None] * shares * self.point(score) * shares)

    @classmethod
    def fit(cls, score: np.ndarray, errors: np.ndarray) -> Confidence:
        """Return the maps fitted to scores (N, L) and errors (N, L) in percent.

        Raises:
            LabError: see `Falling.fit`.
        """
        shares = errors.mean(axis=0) / errors.mean()
        face = Falling.fit(score.mean(axis=1), errors.mean(axis=1))
        point = Falling.fit(score.ravel(), (errors / shares).ravel())
        return cls(face, point, tuple(np.round(shares, 4).tolist()), len(score))

    def text(self) -> str:
        """Return what `read` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Confidence:
        """Return what `text` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        found = json.loads(text)
        face, point = (_falling(found[name]) for name in ("face", "point"))
        return cls(face, point, tuple(float(share) for share in found["shares"]), int(found["faces"]))


def _falling(found: Mapping[str, Sequence[float]]) -> Falling:
    scores, errors = ([float(value) for value in found[name]] for name in ("scores", "errors"))
    falling = np.diff(scores).min(initial=0) >= 0 and np.diff(errors).max(initial=0) <= 0
    if not scores or len(scores) != len(errors) or not falling:
        raise ValueError("no falling map")
    return Falling(tuple(scores), tuple(errors))
