"""A cascade on the CPU as compiled loops: where tensors meet the loops, whose work is shared among threads.

The loops are in `musica.native.patches`, `musica.native.cascade` and `musica.native.pyramid`. `musica.module` chooses
between this and the network itself; nothing else imports it.

Needs the optional package numba, see `common.native`.
Symbols: B faces, A faces still in the cascade, M patches, p side of a patch, C channels of a convolution, I inputs and
U units of a hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from musica.native.cascade import APART, WIDEST, cascade_share
from musica.native.patches import describe_patches, flat_weights
from musica.native.pyramid import centre_bytes, halve_level, taps_of
from musica.native.threads import side_by_side, together
from musica.network import CascadeNet, Stage
from musica.patches import empty_level
from musica.pyramid import FLAT
from musica.types import FEATURES, CascadeRun, Level, Pyramid

MOST_FACES = 8  # for the whole cascade in loops; for more, tensors' products with the hidden layer are faster


class NativeCascade:
    """A network's pyramid and run, computed by the loops; without gradients.

    It keeps the weights as the loops take them, all of them views: what training changes is seen here, too. They are
    kept since the interpreter is slow right after megabytes of weights went through the caches.

    Args:
        net: single precision, on the CPU.

    Attributes:
        net: the network.
        weights: as `cascade_share` takes them: T arrays each.
        indices: T arrays of the landmarks that get a patch.
        factors: (T,) crop pixels in a pixel of each iteration's level.
        width: size of the sums over an iteration's inputs: hidden units, or the rank.
        usable: whether every tensor is in memory in the order of its axes; else the loops can't read them.
    """

    def __init__(self, net: CascadeNet) -> None:
        self.net = net
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
        """Return whether the network still has the same tensors in the same memory."""
        return all(owner[name] is tensor and tensor.data_ptr() == at for owner, name, tensor, at in self._found)

    def __call__(
        self, image: Tensor, origin: Tensor | None = None, exit_below: Sequence[float] | None = None
    ) -> CascadeRun:
        """Return what `CascadeNet.forward` does."""
        return self.run(self.pyramid(image), self.net.first_shape(len(image), origin), exit_below)

    def pyramid(self, image: Tensor) -> Pyramid:
        """Return what `CascadeNet.pyramid` does."""
        if image.dtype != torch.uint8:
            return self.net.pyramid(image)
        return levels(image.permute(0, 2, 3, 1).contiguous(), max(self.net.level_of) + 1)

    def run(self, pyramid: Pyramid, start: Tensor, exit_below: Sequence[float] | None = None) -> CascadeRun:
        """Return what `CascadeNet.run` does: a few faces all in loops; of more, the patches."""
        if len(start) > MOST_FACES:
            return self.net.run(pyramid, start, exit_below, describe=self.describe)
        net, threads = self.net, torch.get_num_threads()
        faces, iterations = len(start), len(self.factors)
        below = np.full(iterations, -np.inf, np.float32)
        if exit_below is not None:
            below[:-1] = exit_below
        pixels = {level: pyramid.levels[level].image.flatten(2).numpy() for level in set(net.level_of)}
        points, errors = torch.empty(iterations, *start.shape), torch.empty(iterations, faces)
        taken = torch.empty(faces, dtype=torch.int64)
        given = (
            tuple(pixels[level] for level in net.level_of), self.factors, _factors(pyramid.scale, faces),
            net.sampling == "official", self.weights, self.indices, start.contiguous().numpy(), below,
            np.zeros(2 * iterations * APART, np.int64), np.zeros((iterations, threads, faces, self.width), np.float32),
        )  # fmt: skip
        results = (points.numpy(), errors.numpy(), taken.numpy())
        done = together([partial(cascade_share, *given, k, *results) for k in range(threads)])
        return CascadeRun(list(points[:done]), list(errors[:done]), taken)

    def describe(
        self, stage: Stage, level: Level, centres: Tensor, faces: Tensor | None, scale: Tensor | None
    ) -> Tensor:
        """Return what `CascadeNet.describe` does."""
        count = centres.shape[1]
        rows = np.arange(len(centres)) if faces is None else faces.numpy()
        features = torch.empty(len(centres), count, FEATURES)
        image, out, where = level.image.flatten(2).numpy(), features.numpy(), centres.contiguous().numpy()
        factors = _factors(scale, len(image))
        one, one_bias, two, two_bias = (
            getattr(layer, name).detach().numpy() for layer in (stage.conv1, stage.conv2) for name in ("weight", "bias")
        )
        given = (self.net.sampling == "official", flat_weights(one), one_bias, flat_weights(two), two_bias)

        def work(begin: int, end: int) -> None:  # of all faces' patches
            for a in range(begin // count, -(-end // count)):
                own = slice(max(begin - a * count, 0), min(end - a * count, count))
                describe_patches(image[rows[a]], where[a, own], factors[rows[a]], *given, out[a, own])

        side_by_side(work, len(centres) * count, torch.get_num_threads())
        return features.view(-1, FEATURES)


def _factors(scale: Tensor | None, faces: int) -> np.ndarray:
    return np.ones(faces, np.float32) if scale is None else scale.view(-1).float().numpy()


def levels(image: Tensor, depth: int) -> Pyramid:
    """Return what `musica.pyramid.pyramid` does for faces (B, H, W, 3) uint8."""
    made: list[Level] = []
    shape = tuple(image.shape)
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
    scale = torch.from_numpy(deviation)[:, None, None, None].clamp_min_(FLAT).reciprocal_()
    return Pyramid(made, scale)
