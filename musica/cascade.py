"""Running the iterations, with the exit: a face that is good enough leaves, and nothing more is computed for it.

The released program always ran all iterations and picked afterwards; the paper's exit exists only here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from musica.native import loops
from musica.patches import cut_patches
from musica.pyramid import Pyramid

if TYPE_CHECKING:
    from musica.network import CascadeNet, StageOutput


@dataclass
class Trace:
    """What one iteration saw and answered, for tests and pictures.

    Attributes:
        faces: (A,) rows of the batch that took part.
        centres: (A, M, 2) where patches were cut, row and column, pixels of the level.
        patches: (A * M, 3, p, p).
        output: the stage's answer.
        moved: (A, N, 2) sum of displacements after it, pixels of the level.
    """

    faces: Tensor
    centres: Tensor
    patches: Tensor
    output: StageOutput
    moved: Tensor


@dataclass
class CascadeRun:
    """Answers of a run.

    Attributes:
        points: per iteration (B, N, 2) row, column, pixels of level 0; a face that left keeps its last answer.
        errors: per iteration (B,) predicted errors; a face that left keeps its last one.
        iterations: (B,) how many iterations a face took.
        traces: per iteration, where asked for.
    """

    points: list[Tensor]
    errors: list[Tensor]
    iterations: Tensor
    traces: list[Trace] = field(default_factory=list)


def run_cascade(
    net: CascadeNet,
    tower: Pyramid,
    start: Tensor,
    exit_below: Sequence[float] | None = None,
    keep_traces: bool = False,
) -> CascadeRun:
    """Run the iterations; between them the batch shrinks to the faces that go on.

    Args:
        net: the network.
        tower: pyramid of B faces.
        start: (B, N, 2) row, column, pixels of level 0.
        exit_below: for each iteration but the last, the predicted error under which a face leaves; None for no exit.
        keep_traces: keep what each iteration saw.
    """
    use_loops = not keep_traces and loops.usable(start) and start.dtype == tower.levels[0].image.dtype == torch.float32
    if use_loops and len(start) <= loops.MOST_FACES and (weights := loops.prepared(net)):
        return loops.run(weights, net, tower, start, exit_below)
    faces: Tensor | None = None  # None: all of them, so that no index is spent on a whole batch
    moved = torch.zeros_like(start)
    state = start.new_zeros(start.shape[0], net.stage_list[0].units)
    run = CascadeRun([], [], torch.full((start.shape[0],), len(net.level_of), device=start.device))
    origin = start
    for t, (level, stage, indices) in enumerate(zip(net.level_of, net.stage_list, net.index_sets, strict=True)):
        centres = (origin / 2**level + moved)[:, indices]
        where = (tower.levels[level], centres, net.patch, net.sampling, faces, tower.scale)
        if use_loops:
            output = stage.answer(loops.describe(*where, stage.conv1, stage.conv2), state)
        else:
            patches = cut_patches(*where)
            output = stage(patches, state)
        moved, state = moved + output.displacement, output.state
        _record(run, faces, origin + 2**level * moved, output.error)
        if keep_traces:
            rows = torch.arange(start.shape[0], device=start.device) if faces is None else faces
            run.traces.append(Trace(rows, centres, patches, output, moved))
        if t + 1 == len(net.level_of):
            break
        if exit_below is not None:
            stay = ~(output.error < exit_below[t])  # an error that is no number stays
            if not bool(stay.all()):
                kept = stay.nonzero()[:, 0]
                left = (~stay).nonzero()[:, 0]
                run.iterations[left if faces is None else faces[left]] = t + 1
                faces = kept if faces is None else faces[kept]
                if len(kept) == 0:
                    break
                origin, moved, state = origin[kept], moved[kept], state[kept]
        if net.detach:
            moved, state = moved.detach(), state.detach()
        moved = moved * 2 ** (level - net.level_of[t + 1])
    return run


def _record(run: CascadeRun, faces: Tensor | None, points: Tensor, error: Tensor) -> None:
    """Append an iteration's answers; faces that left before it keep their last ones."""
    if faces is None:
        run.points.append(points)
        run.errors.append(error)
        return
    run.points.append(run.points[-1].index_copy(0, faces, points))
    run.errors.append(run.errors[-1].index_copy(0, faces, error))


def traced(net: CascadeNet, image: Tensor) -> list[Trace]:
    """Return what every iteration saw for crops (B, 3, S, S), all iterations."""
    with torch.inference_mode():
        start = net.start.expand(image.shape[0], -1, -1)
        return run_cascade(net, net.pyramid(image), start, keep_traces=True).traces
