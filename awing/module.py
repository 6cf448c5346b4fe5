"""Training and prediction of the Adaptive Wing method: network, targets and loss joined under the common contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from awing.loss import AWingObjective, LossConfig
from awing.network import AWingNet
from awing.original import official_parts, predict_official
from awing.targets import AWingTargets
from common.errors import LabError, check_range, check_ranges
from common.export.graph import GraphPart, Net
from common.heatmaps import cells_to_crop, decode_argmax, decode_quarter, decode_window, soft_argmax
from common.task import LandmarkTask
from common.train_config import TrainConfig
from common.types import FaceBatch, Prediction

STRIDE = 4  # crop pixels a heatmap cell
SMALLEST = 36  # crop pixels whose map holds a peak
TRAIN = TrainConfig(optimizer="rmsprop", lr=1e-4, weight_decay=1e-5, schedule="multistep", milestones=(80, 160))


@dataclass(frozen=True)
class OfficialConfig:
    """Quirks of the official implementation.

    Attributes:
        legacy_border: reproduce the shift of its Gaussians at the left and top border.
        boundary_shift: cells by which the boundary target is moved to the right (official drawing: 1).
        official_frame: its crop coordinates, half a pixel off this project's; for its weights.
    """

    legacy_border: bool = False
    boundary_shift: int = 1
    official_frame: bool = False

    def __post_init__(self) -> None:
        check_ranges("official", self, boundary_shift="[-16, 16]")


@dataclass(frozen=True)
class ExtraConfig:
    """Options that the paper does not have; the first two pay at small sizes [ours].

    Attributes:
        stem: residual (paper), or strided: two strided convolutions, a tenth of a small network's training time less.
        growth: channels that each level of an hourglass has more than the one outside it (paper: 0).
        flip_test: return the mean of the crop's and the mirrored crop's points; twice the time.

    Raises:
        LabError: growth is out of its range or no multiple of 4.
    """

    stem: Literal["residual", "strided"] = "residual"
    growth: int = 0
    flip_test: bool = False

    def __post_init__(self) -> None:
        check_ranges("extra", self, growth="[0, 1024]")
        if self.growth % 4:
            raise LabError(f"extra.growth must be a multiple of 4, got {self.growth}")


class AWingTask(LandmarkTask):
    """Adaptive Wing loss, weighted loss map, boundary channel and CoordConv (Wang, Bo, Li, ICCV 2019).

    Args:
        scheme: landmark scheme.
        input_size: side of the crops in pixels; a multiple of 4 * 2 ** depth.
        stacks: hourglasses, one after the other (paper: 4).
        width: features of the hourglasses (paper: 256); the stem scales with it.
        depth: levels of each hourglass (paper: 4).
        extra: options that the paper does not have.
        coord_conv: coordinate channels at the stem and before each hourglass.
        boundary: coordinates masked by the former stack's boundary, from stack 2 on.
        backbone: hourglass, or the name of a timm encoder, which gets a U-Net decoder (dla34, resnet50, ...).
        pretrained: start the timm encoder from its published weights.
        loss: training objective.
        decode: quarter (official implementation), argmax, window (centre of mass round the peak) or soft.
        official: quirks of the official implementation.
        threshold: FR and AUC threshold in percent of the normaliser.
        train: optimiser, schedule, moving average and photometric changes.
    """

    METHOD = "awing"
    LOADED: ClassVar[dict[str, object]] = {"pretrained": False}
    MOVED: ClassVar[dict[str, str]] = LandmarkTask.MOVED | {
        "loss": "loss.kind",
        "integral_weight": "loss.integral_weight",
        "integral_beta": "loss.integral_beta",
        "map_weight": "loss.map_weight",
        "legacy_border": "official.legacy_border",
        "boundary_shift": "official.boundary_shift",
        "official_frame": "official.official_frame",
    }

    def __init__(
        self,
        scheme: str = "wflw98",
        input_size: int = 256,
        stacks: int = 4,
        width: int = 256,
        depth: int = 4,
        coord_conv: bool = True,
        boundary: bool = True,
        backbone: str = "hourglass",
        pretrained: bool = False,
        loss: LossConfig = LossConfig(),  # noqa: B008 - frozen
        decode: Literal["argmax", "quarter", "window", "soft"] = "quarter",
        official: OfficialConfig = OfficialConfig(),  # noqa: B008
        extra: ExtraConfig = ExtraConfig(),  # noqa: B008
        threshold: float = 10.0,
        train: TrainConfig = TRAIN,
    ) -> None:
        super().__init__(scheme, input_size, threshold, train)
        self.save_hyperparameters()
        check_range("model.stacks", stacks, "[1, 64]")
        check_range("model.width", width, "[16, 4096]")
        check_range("model.depth", depth, "[1, 8]")
        check_range("model.input_size (data.crop.size)", input_size, f"[{SMALLEST}, 4096]")
        self.decode = decode
        self.logits = loss.kind == "focal"
        self.integral_beta = loss.integral_beta
        self.flip_test = extra.flip_test
        self.frame_shift = 0.0 if official.official_frame else 0.5
        multiple = STRIDE * 2**depth if backbone == "hourglass" else 32
        if input_size % multiple:
            raise LabError(f"input_size must be a multiple of {multiple} for this network, got {input_size}")
        points = self.scheme.num_points
        self.net: nn.Module
        if backbone == "hourglass":
            self.net = AWingNet(points, stacks=stacks, width=width, depth=depth, coord_conv=coord_conv,
                                boundary=boundary, logits=self.logits, stem=extra.stem,
                                growth=extra.growth)  # fmt: skip
        else:
            from awing.timm_unet import TimmUNet  # timm takes seconds to import; most runs do not need it

            self.net = TimmUNet(backbone, points, pretrained=pretrained, logits=self.logits, size=input_size)
        self.targets = AWingTargets(
            self.scheme, map_size=input_size // STRIDE, stride=STRIDE, legacy_border=official.legacy_border,
            x_shift=official.boundary_shift, subcell=loss.subcell,
        )  # fmt: skip
        self.objective = AWingObjective(loss)

    def network(self) -> nn.Module:
        return self.net

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one (B, L + 1, S / 4, S / 4) map per stack, boundary last, for uint8 crops (B, 3, S, S)."""
        maps: list[Tensor] = self.net(image)
        return maps

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        # Frame of the official targets: pixel areas, so the first pixel's centre is (0.5, 0.5).
        points = batch.points[..., :2] + self.frame_shift
        heatmaps, weight_map = self.targets(points, reuse=True)  # used up within this step
        parts: dict[str, Tensor] = self.objective(
            self(batch.image), heatmaps, weight_map, points / STRIDE, batch.weight
        )
        return parts

    def maps(self, batch: FaceBatch) -> dict[str, Tensor]:
        targets, _ = self.targets(batch.points[..., :2] + self.frame_shift)
        found = self(batch.image)[-1]
        if self.logits:
            found = found.sigmoid()
        return {"points, target": targets[:, :-1], "points": found[:, :-1],
                "boundary, target": targets[:, -1:], "boundary": found[:, -1:]}  # fmt: skip

    def decode_maps(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return points (B, L, 2) in crop pixels and the peaks' heights (B, L) of maps (B, L + 1, H, W)."""
        maps = maps[:, :-1].float()
        if self.logits:
            maps = maps.sigmoid()
        match self.decode:
            case "argmax":
                cells = decode_argmax(maps)
            case "quarter":
                cells = decode_quarter(maps)
            case "window":
                cells = decode_window(maps)
            case "soft":
                cells = soft_argmax(maps, temperature=1 / self.integral_beta)
        return cells_to_crop(cells, STRIDE) - (self.frame_shift - 0.5), maps.flatten(2).amax(-1)

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        decoded = [self.decode_maps(maps) for maps in self(batch.image)]
        if self.flip_test:
            mirrored = [self.decode_maps(maps) for maps in self(batch.image.flip(-1))]
            decoded = [
                ((one + self.mirror_back(two)) / 2, (high + low[:, self.scheme.mirror]) / 2)
                for (one, high), (two, low) in zip(decoded, mirrored, strict=True)
            ]
        points, score = decoded[-1]
        return Prediction(points=points, score=score, steps=[step for step, _ in decoded])

    def photograph_parts(self, official: bool) -> dict[str, GraphPart]:
        return official_parts(self.net) if official else {}

    def predict_official(
        self, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
    ) -> Prediction:
        return predict_official(self.net, image, boxes, nets)
