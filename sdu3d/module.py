"""Training and prediction: networks, targets, coherent views and depth joined under the common contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import LabError, check_ranges
from common.export.graph import GraphPart, Net
from common.heatmaps import cells_to_crop
from common.losses import integral_loss
from common.task import LandmarkTask
from common.train_config import TrainConfig
from common.types import FaceBatch, Prediction
from sdu3d.decode import Decoder, decode
from sdu3d.loss import (
    PEAK,
    LossKind,
    centred,
    coherent_loss,
    depth_loss,
    gaussian_targets,
    heatmap_loss,
    read_depth,
)
from sdu3d.network import FULL_WIDTH, Maps, SduNet
from sdu3d.optim import SharedNadam
from sdu3d.original import official_parts, predict_official
from sdu3d.views import Views, draw_views

RELEASED_SHIFT = 0.5  # crop pixels by which an official target cell's middle lies before the point, in the mean
TRAIN = TrainConfig(optimizer="nadam", lr=2.5e-4, schedule="multistep", milestones=(20, 35), gamma=0.2)


@dataclass(frozen=True)
class NetworkConfig:
    """Stacked U-shaped networks.

    Attributes:
        topology: hourglass, sat (scale aggregation) or sat_gate.
        block: of which the networks are made.
        depth: times that each U halves its maps.
        stacks: U-shaped networks, one after the other.
        width: features (official: 256).
        stride: crop pixels a map cell: 2 (official) or 4.
        inside: transformer inside the network.
        border: border rule of deformable convolutions: torchvision, or mxnet for official weights.
        depth_head: predict z too, so that points are (B, L, 3); needs data with depth.
        stem: blocks (official), or strided convolutions, with a stride of 4 [ours].
        growth: channels that each level of an hourglass has more than the one outside it (official: 0) [ours].
    """

    topology: Literal["hourglass", "sat", "sat_gate"] = "hourglass"
    block: Literal["resnet", "inception", "hpm", "cab"] = "cab"
    depth: int = 3
    stacks: int = 2
    width: int = FULL_WIDTH
    stride: Literal[2, 4] = 2
    inside: Literal["none", "dcn_join", "dcn_heads", "dcn", "stn"] = "none"
    border: Literal["torchvision", "mxnet"] = "torchvision"
    depth_head: bool = False
    stem: Literal["blocks", "strided"] = "blocks"
    growth: int = 0

    def __post_init__(self) -> None:
        check_ranges("net", self, depth="[1, 8]", stacks="[1, 64]", width="[8, 4096]", growth="[0, 1024]")


@dataclass(frozen=True)
class LossConfig:
    """Targets and losses.

    Attributes:
        kind: l2 (official), ce (soft-max over cells, official before) or bce (per cell, the paper's).
        sigma: of the target Gaussians, in cells.
        peak: height of the targets of l2 and ce (official: 20); 1 suits short trainings with larger steps.
        quantise: centre targets on the middle of the point's cell, as the official loader does; else on the point.
        depth_weight: factor of the depth loss.
        integral_weight: factor of the mean coordinate error, in cells, of the maps' soft-arg-max [ours].

    Raises:
        LabError: a value is out of its range, or integral_weight is given for another kind than ce.
    """

    kind: LossKind = "l2"
    sigma: float = 1.0
    peak: float = PEAK
    quantise: bool = True
    depth_weight: float = 1.0
    integral_weight: float = 0.0

    def __post_init__(self) -> None:
        check_ranges("loss", self, depth_weight="[0, inf)", integral_weight="[0, inf)", sigma="[0, 100]",
                     peak="(0, inf)")  # fmt: skip
        if self.integral_weight and self.kind != "ce":
            raise LabError(f"loss.integral_weight is for loss.kind ce, whose maps are a distribution, not {self.kind}")


@dataclass(frozen=True)
class ViewConfig:
    """Transformed views of each face for the coherent loss.

    Attributes:
        weight: of the coherent loss between each face and a transformed view of it; 0 for no views.
        rotation: largest turn of a view in degrees.
        scale: largest relative change of a view's size.
        flip: chance of a mirrored view.

    Raises:
        LabError: a value is out of its range.
    """

    weight: float = 0.0
    rotation: float = 30.0
    scale: float = 0.2
    flip: float = 0.5

    def __post_init__(self) -> None:
        check_ranges("views", self, weight="[0, inf)", rotation="[0, 180]", scale="[0, 1)", flip="[0, 1]")


class SduTask(LandmarkTask):
    """Stacked U-shaped networks with dual transformers (Guo, Deng, Xue, Zafeiriou, BMVC 2018), 2D and 3D.

    Args:
        scheme: landmark scheme.
        input_size: side of the crops in pixels; a multiple of stride * 2 ** depth.
        net: stacked U-shaped networks.
        loss: targets and losses.
        views: transformed views for the coherent loss.
        decode: released (arg-max of enlarged maps), argmax, quarter, window (centre of mass), local_soft or soft (the
            mean of the distribution that loss.kind ce trains).
        flip_test: return the mean of the crop's and the mirrored crop's points; twice the time.
        official_frame: target cells are trunc(x / 2) as in the official implementation, half a pixel off this
            project's; for its weights.
        threshold: FR and AUC threshold in percent of the normaliser.
        train: optimiser, schedule, moving average and photometric changes; nadam is MXNet's.
    """

    METHOD = "sdu3d"
    REMOVED: ClassVar[dict[str, object]] = {"binary": False}
    MOVED: ClassVar[dict[str, str]] = (
        LandmarkTask.MOVED
        | {name: f"net.{name}" for name in NetworkConfig.__dataclass_fields__}
        | {"loss": "loss.kind", **{name: f"loss.{name}" for name in ("sigma", "peak", "quantise", "depth_weight")}}
        | {"coherent": "views.weight", **{f"view_{name}": f"views.{name}" for name in ("rotation", "scale", "flip")}}
    )

    def __init__(
        self,
        scheme: str = "ibug68",
        input_size: int = 128,
        net: NetworkConfig = NetworkConfig(),  # noqa: B008 - frozen
        loss: LossConfig = LossConfig(),  # noqa: B008
        views: ViewConfig = ViewConfig(),  # noqa: B008
        decode: Decoder = "released",
        official_frame: bool = False,
        flip_test: bool = False,
        threshold: float = 10.0,
        train: TrainConfig = TRAIN,
    ) -> None:
        super().__init__(scheme, input_size, threshold, train)
        self.save_hyperparameters()
        multiple = net.stride * 2**net.depth
        if input_size % multiple:
            raise LabError(f"input_size must be a multiple of {multiple} for this network, got {input_size}")
        self.loss = loss
        self.views = views
        self.decode = decode
        self.peak = 1.0 if loss.kind == "bce" else loss.peak
        self.stride = net.stride
        self.official_frame = official_frame
        self.flip_test = flip_test
        try:
            self.net = SduNet(self.scheme.num_points, **asdict(net))
        except ValueError as error:
            raise LabError(f"model: {error}") from None
        self.dims = 3 if net.depth_head else 2

    def network(self) -> nn.Module:
        return self.net

    def new_parts(self) -> tuple[str, ...]:
        return ("net.depth_maps.",) if self.dims == 3 else ()

    def check_batch(self, batch: FaceBatch) -> None:
        super().check_batch(batch)
        given = batch.points.shape[-1]
        if given != self.dims:
            raise LabError(
                f"data has {given} coordinates a landmark, the model predicts {self.dims}: set --model.net.depth_head "
                f"{str(given == 3).lower()}, or choose data with{'out' if self.dims == 2 else ''} depth"
            )

    def forward(self, image: Tensor) -> Maps:
        """Return the maps of crops (B, 3, S, S), uint8 or float in 0..255."""
        maps: Maps = self.net(image)
        return maps

    def target_maps(self, points: Tensor) -> Tensor:
        """Return targets (B, L, S / stride, S / stride) of points (B, L, 2+) in crop pixels."""
        shift = 0.0 if self.official_frame else 0.5
        cells = (points[..., :2] + shift) / self.stride
        return gaussian_targets(cells, self.input_size // self.stride, self.loss.sigma, self.peak, self.loss.quantise)

    def presence(self, maps: Tensor) -> Tensor:
        """Return maps (B, L, H, W) as non-negative heights, about 1 at a landmark."""
        match self.loss.kind:
            case "bce":
                return maps.sigmoid()
            case "ce":
                return maps.flatten(2).softmax(-1).view_as(maps)
        return maps.clamp(min=0) / self.peak

    def maps(self, batch: FaceBatch) -> dict[str, Tensor]:
        return {"points, target": self.target_maps(batch.points), "points": self.presence(self(batch.image)[0][-1])}

    def depths(self, maps: Tensor, heatmaps: Tensor) -> Tensor:
        """Return z (B, L) in crop pixels, relative to each face's mean, towards the viewer."""
        return centred(read_depth(maps, heatmaps)) * (self.input_size / 2)

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        image, points, views = batch.image, batch.points, None
        if self.views.weight:
            views = self._draw_views(batch)
            image, points = self._with_views(batch, views)
        heatmaps, depth = self(image)
        targets, weight = self.target_maps(points), batch.weight[..., None, None]
        if views is not None:
            weight = torch.cat([weight, views.reorder(weight, self.scheme.mirror)])
        # Points without annotation: their maps are compared with themselves.
        parts = {
            f"stack{i}": heatmap_loss(self.loss.kind, maps, torch.where(weight > 0, targets, maps.detach()))
            for i, maps in enumerate(heatmaps)
        }
        if self.loss.integral_weight:
            cells = (points[..., :2] + 0.5) / self.stride
            for i, maps in enumerate(heatmaps):
                error = integral_loss(maps, cells, 1.0, weight[..., 0, 0])
                parts[f"integral{i}"] = self.loss.integral_weight * error
        if views is not None:
            parts["coherent"] = self.views.weight * self._coherent(heatmaps, views)
        if depth is not None:
            parts["depth"] = self._depth_loss(depth, heatmaps[-1], targets, points)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _draw_views(self, batch: FaceBatch) -> Views:
        generator = torch.Generator().manual_seed(int(torch.initial_seed() % 2**31) + self.global_step)
        views = self.views
        return draw_views(len(batch), views.rotation, views.scale, views.flip, generator, batch.image.device)

    def _with_views(self, batch: FaceBatch, views: Views) -> tuple[Tensor, Tensor]:
        """Return crops (2B, 3, S, S) and points (2B, L, D): the batch, then its views."""
        image = batch.image.float()
        points = views.points(batch.points, self.input_size, self.scheme.mirror)
        return torch.cat([image, views.picture(image)]), torch.cat([batch.points, points])

    def _coherent(self, heatmaps: list[Tensor], views: Views) -> Tensor:
        """Return the mean over stacks of the difference between moved predictions and predictions of the moved."""
        inside = views.inside(heatmaps[0].shape[-1])
        total = heatmaps[0].new_zeros(())
        for maps in heatmaps:
            first, second = maps.chunk(2)
            total = total + coherent_loss(views.maps(first, self.scheme.mirror), second, inside)
        return total / len(heatmaps)

    def _depth_loss(self, depth: Tensor, heatmaps: Tensor, targets: Tensor, points: Tensor) -> Tensor:
        """Return the weighted error of z read under the true and under the predicted peaks."""
        if points.shape[-1] != 3:
            raise LabError("the model has a depth head but the data have no depth: choose data with 3D points, or set "
                           "--model.net.depth_head false")  # fmt: skip
        true, half = points[..., 2], self.input_size / 2
        errors = [depth_loss(self.depths(depth, where), true, half) for where in (targets, self.presence(heatmaps))]
        return self.loss.depth_weight * (errors[0] + errors[1]) / 2

    def decode_maps(self, maps: Tensor) -> Tensor:
        """Return points (B, L, 2) in crop pixels of maps (B, L, H, W)."""
        points = cells_to_crop(decode(maps.float(), self.decode, self.stride), self.stride)
        return points + RELEASED_SHIFT if self.official_frame else points

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        heatmaps, depth = self(batch.image)
        steps = [self.decode_maps(maps) for maps in heatmaps]
        if self.flip_test:
            mirrored = [self.mirror_back(self.decode_maps(maps)) for maps in self(batch.image.flip(-1)).heatmaps]
            steps = [(one + two) / 2 for one, two in zip(steps, mirrored, strict=True)]
        presence = self.presence(heatmaps[-1].float())
        if depth is not None:
            z = self.depths(depth.float(), presence)[..., None]
            steps = [torch.cat([points, z], -1) for points in steps]
        return Prediction(points=steps[-1], score=presence.flatten(2).amax(-1), steps=steps)

    def photograph_parts(self, official: bool) -> dict[str, GraphPart]:
        return official_parts(self.net) if official else {}

    def predict_official(
        self, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
    ) -> Prediction:
        return predict_official(self.net, image, boxes, nets)

    def make_optimizer(self) -> torch.optim.Optimizer:
        config = self.train_config
        if config.optimizer != "nadam":
            return super().make_optimizer()
        return SharedNadam(self.parameter_groups(), lr=config.lr, weight_decay=config.weight_decay)
