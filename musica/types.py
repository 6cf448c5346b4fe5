"""What the cascade takes and returns: the pyramid of a batch of faces, an iteration's output, a run.

Shapes are (row, column) inside the network, as official weights need. Symbols: B faces, A faces still in the cascade,
M patches, p side of a patch, N landmarks, U hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

PATCH = 14  # p, in pixels of the patch's level
CHANNELS = 32  # of both convolutions
FEATURES = 256  # of a patch: 2 x 2 places, 2 * CHANNELS each
SLACK = 16  # pixels of zeros before and after a level's memory; no window may be wider


@dataclass
class Level:
    """A level of the pyramid of B faces, with some zeros before and after it in memory.

    A row of a window that begins left of the image starts in the former row's memory, so every window can be read
    without a bordered copy of the level; what is not the image's is set to zero afterwards.

    Attributes:
        image: (B, H, W, 3), one piece of memory inside `memory`.
        memory: (SLACK * 3 + B * H * W * 3 + SLACK * 3,).
    """

    image: Tensor
    memory: Tensor


@dataclass
class Pyramid:
    """Levels of a batch of faces, finest first, whose brightness is centred but not yet divided by its deviation.

    Blur, resampling and cutting are linear and keep constants, so the division may come last, patch by patch: pixels
    that nobody looks at are never divided.

    Attributes:
        levels: (B, H_l, W_l, 3) each.
        scale: (B, 1, 1, 1) factor that brings a face's deviation to 1; None where the levels are normalised already.
    """

    levels: list[Level]
    scale: Tensor | None = None


class StageOutput(NamedTuple):
    """Output of one iteration.

    Attributes:
        displacement: (A, N, 2) row, column, pixels of the iteration's level.
        error: (A,) predicted error of the result, in the unit of the landmark loss.
        state: (A, U) hidden state.
        attention: (A * M, FEATURES) in 0..1.
    """

    displacement: Tensor
    error: Tensor
    state: Tensor
    attention: Tensor


@dataclass
class Trace:
    """Inputs and output of one iteration, for tests and pictures.

    Attributes:
        faces: (A,) rows of the batch that took part.
        centres: (A, M, 2) centres of the patches, row and column, pixels of the level.
        features: (A * M, FEATURES) before attention.
        output: of the stage.
        moved: (A, N, 2) sum of displacements after it, pixels of the level.
    """

    faces: Tensor
    centres: Tensor
    features: Tensor
    output: StageOutput
    moved: Tensor


@dataclass
class CascadeRun:
    """Result of a run.

    Attributes:
        points: per iteration (B, N, 2) row, column, pixels of level 0; a face that left keeps its last ones.
        errors: per iteration (B,) predicted errors; a face that left keeps its last one.
        iterations: (B,) how many iterations a face took.
        traces: per iteration, where asked for.
    """

    points: list[Tensor]
    errors: list[Tensor]
    iterations: Tensor
    traces: list[Trace] = field(default_factory=list)
