"""One or a few faces on the CPU as compiled loops: where the tensors' world meets that of the loops.

The loops are in `musica.native.patches` and `musica.native.cascade`; here their work is shared among threads.

Needs the optional package numba, see `common.native`.
Letters: B faces, A faces still in the cascade, M patches, p side of a patch, C channels of a convolution, I inputs and
U units of a hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from common.native import available
from musica.native.cascade import APART, WIDEST, cascade_share
from musica.native.patches import CHANNELS, FEATURES, PATCH, describe_patches, flat_weights
from musica.native.pyramid import centre_bytes, halve_level, taps_of
from musica.native.threads import side_by_side, together
from musica.patches import Level, empty_level

if TYPE_CHECKING:
    from musica.cascade import CascadeRun
    from musica.network import CascadeNet, Stage
    from musica.pyramid import Pyramid

MOST_FACES = 8  # for the whole cascade in loops; for more, tensors' products with the hidden layer are faster


def usable(like: Tensor) -> bool:
    """Return whether the loops may work here, given a tensor of what they work on.

    Not while operators are watched, as by a counter of multiply-adds, which would not see these.
    """
    return (
        available
        and like.device.type == "cpu"
        and like.dtype in (torch.float32, torch.uint8)
        and not torch.is_grad_enabled()
        and not is_in_torch_dispatch_mode()
        and not torch.compiler.is_compiling()
    )


def _weights(*layers: nn.Module) -> list[np.ndarray]:
    """Return weights and bias of each layer as views."""
    return [getattr(layer, name).detach().numpy() for layer in layers for name in ("weight", "bias")]


def describe(
    level: Level,
    centres: Tensor,
    patch: int,
    sampling: str,
    faces: Tensor | None,
    scale: Tensor | None,
    first: nn.Conv2d,
    second: nn.Conv2d,
) -> Tensor:
    """Return what `Stage.describe` answers (A M, 8 C) for what `cut_patches` returns; the same arguments.

    Args:
        first: the stage's first convolution.
        second: its second one.
    """
    assert (patch, first.out_channels) == (PATCH, CHANNELS)
    count = centres.shape[1]
    rows = np.arange(len(centres)) if faces is None else faces.numpy()
    features = torch.empty(len(centres), count, FEATURES)
    image, out, where = level.image.flatten(2).numpy(), features.numpy(), centres.contiguous().numpy()
    factors = _factors(scale, len(image))
    one, one_bias, two, two_bias = _weights(first, second)
    given = (sampling == "official", flat_weights(one), one_bias, flat_weights(two), two_bias)

    def work(begin: int, end: int) -> None:  # of all faces' patches
        for a in range(begin // count, -(-end // count)):
            own = slice(max(begin - a * count, 0), min(end - a * count, count))
            describe_patches(image[rows[a]], where[a, own], factors[rows[a]], *given, out[a, own])

    side_by_side(work, len(centres) * count, torch.get_num_threads())
    return features.view(-1, FEATURES)


def _factors(scale: Tensor | None, faces: int) -> np.ndarray:
    return np.ones(faces, np.float32) if scale is None else scale.view(-1).float().numpy()


class Prepared:
    """A network's weights as the loops take them, all of them views: what training changes is seen here too.

    Args:
        net: with whole or low-rank layers.

    Attributes:
        weights: as `cascade_share` takes them: T arrays each.
        indices: T arrays of the landmarks that get a patch.
        factors: (T,) crop pixels in a pixel of each iteration's level.
        width: numbers that an iteration's patches are summed to: hidden units, or the rank.
        usable: whether every tensor lies in memory in the order of its axes.
    """

    def __init__(self, net: CascadeNet) -> None:
        self._found: list[tuple[dict[str, nn.Parameter | None], str, Tensor, int]] = []
        self.weights = tuple(zip(*(self._arrays(stage) for stage in net.stage_list), strict=True))
        self.indices = tuple(indices.numpy() for indices in net.index_sets)
        self.factors = np.array([2**level for level in net.level_of], np.float32)
        self.width: int = self.weights[WIDEST][0].shape[1]
        self.usable = all(array.flags.c_contiguous for group in self.weights for array in group)

    def _arrays(self, stage: Stage) -> list[np.ndarray]:
        """Return an iteration's weights as `cascade_share` takes them, and note where they are."""

        def kept(layer: nn.Module, *names: str) -> list[np.ndarray]:
            tensors = [getattr(layer, name) for name in names]
            self._found += [(layer._parameters, name, tensor, tensor.data_ptr())
                            for name, tensor in zip(names, tensors, strict=True)]  # fmt: skip
            return [tensor.detach().numpy() for tensor in tensors]

        none, both = [np.empty((0, 0), np.float32)], ("weight", "bias")
        *thin, gate = stage.attention if isinstance(stage.attention, nn.Sequential) else [stage.attention]
        return [
            *kept(stage.conv1, *both), *kept(stage.conv2, *both),
            *(kept(thin[0], "weight") if thin else none), *kept(gate, *both),
            *kept(stage.widest, "kernel"), *(none if stage.hidden is stage.widest else kept(stage.hidden, "weight")),
            *kept(stage.hidden, "bias"), *kept(stage.output, *both),
        ]  # fmt: skip

    def current(self) -> bool:
        """Whether the network still has the same tensors in the same memory."""
        return all(owner[name] is tensor and tensor.data_ptr() == at for owner, name, tensor, at in self._found)


_kept: WeakKeyDictionary[CascadeNet, Prepared] = WeakKeyDictionary()


def prepared(net: CascadeNet) -> Prepared | None:
    """Return the network's weights for `run`, or None where it can't run them: another memory layout.

    They are kept: the interpreter is slow right after megabytes of weights went through the caches.
    """
    found = _kept.get(net)
    if found is None or not found.current():
        found = _kept[net] = Prepared(net)
    return found if found.usable else None


def run(
    prepared: Prepared, net: CascadeNet, tower: Pyramid, start: Tensor, exit_below: Sequence[float] | None
) -> CascadeRun:
    """Return what `run_cascade` does; the same arguments, behind the network's weights."""
    from musica.cascade import CascadeRun

    threads = torch.get_num_threads()
    faces, iterations = len(start), len(prepared.factors)
    below = np.full(iterations, -np.inf, np.float32)
    if exit_below is not None:
        below[:-1] = exit_below
    levels = {level: tower.levels[level].image.flatten(2).numpy() for level in set(net.level_of)}
    points, errors = torch.empty(iterations, *start.shape), torch.empty(iterations, faces)
    taken = torch.empty(faces, dtype=torch.int64)
    given = (
        tuple(levels[level] for level in net.level_of), prepared.factors, _factors(tower.scale, faces),
        net.sampling == "official", prepared.weights, prepared.indices, start.contiguous().numpy(), below,
        np.zeros(2 * iterations * APART, np.int64), np.zeros((iterations, threads, faces, prepared.width), np.float32),
    )  # fmt: skip
    answers = (points.numpy(), errors.numpy(), taken.numpy())
    done = together([partial(cascade_share, *given, k, *answers) for k in range(threads)])
    return CascadeRun(list(points[:done]), list(errors[:done]), taken)


def levels(image: Tensor, depth: int) -> tuple[list[Level], Tensor]:
    """Return the levels of faces (B, H, W, 3) uint8 and the factors (B, 1, 1, 1), as `musica.pyramid.pyramid` does."""
    made, shape = [], tuple(image.shape)
    for _ in range(depth):
        made.append(empty_level(shape, image, torch.float32))
        shape = (shape[0], -(-shape[1] // 2), -(-shape[2] // 2), shape[3])
    pixels = image.flatten(2).numpy()
    arrays = [level.image.flatten(2).numpy() for level in made]
    deviation = np.empty(len(image), np.float32)
    taps = [(*taps_of(level.image.shape[1]), *taps_of(level.image.shape[2])) for level in made[:-1]]

    def work(begin: int, end: int) -> None:
        for face in range(begin, end):
            deviation[face] = centre_bytes(pixels[face], arrays[0][face])
            for fine, coarse, given in zip(arrays, arrays[1:], taps, strict=False):
                halve_level(fine[face], *given, coarse[face])

    side_by_side(work, len(image), torch.get_num_threads())
    return made, torch.from_numpy(deviation)[:, None, None, None]
