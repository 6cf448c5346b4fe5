"""Training and prediction of SPIGA: network, stages, targets and losses joined under the common contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from common.data.batching import CroppedFaces
from common.data.shapes import training_shapes
from common.errors import LabError, check_range, check_ranges
from common.export.graph import GraphPart, Net
from common.geometry import disagreement
from common.task import LandmarkTask
from common.train_config import ParameterGroup, TrainConfig
from common.types import FaceBatch, Prediction
from spiga.drawing import draw_pose_axes
from spiga.graph import GraphKind, make_edges
from spiga.loss import cascade_loss, landmark_loss, pose_loss, read_points
from spiga.mean_face import default_mean_face, estimated_face, read_mean_face
from spiga.network import SpigaNet
from spiga.original import official_parts, predict_official
from spiga.schemes import edge_curves, origin
from spiga.targets import TargetMaker

STAGES = (1, 2, 3)
STAGE_ANSWER = {1: "maps", 2: "pose", 3: "cascade"}
HALF = 0.5  # from pixel centres on whole numbers to pixel areas
TRAIN = TrainConfig(optimizer="adam", lr=1e-4, schedule="multistep")


@dataclass(frozen=True)
class GraphConfig:
    """The cascade of graph attention: its steps, and which points attend to each other.

    Attributes:
        steps: of the cascade (paper: 3).
        kind: complete (paper), anatomical (the scheme's edges and mirror pairs) or knn (on this project's mean face).
        knn: neighbours of each point in the knn graph.
    """

    steps: int = 3
    kind: GraphKind = "complete"
    knn: int = 8

    def __post_init__(self) -> None:
        check_ranges("graph", self, steps="[1, 8]")


@dataclass(frozen=True)
class LossWeights:
    """Factors of the loss terms.

    Attributes:
        coordinate: of the coordinates read from the maps (paper: 4).
        attention: of the point and edge maps (paper: 50).
        pose: of the pose in stage 2 (paper: 1).
    """

    coordinate: float = 4.0
    attention: float = 50.0
    pose: float = 1.0

    def __post_init__(self) -> None:
        check_ranges("loss", self, coordinate="[0, inf)", attention="[0, inf)", pose="[0, inf)")


@dataclass(frozen=True)
class OfficialConfig:
    """Quirks of the official implementation.

    Attributes:
        last_head: maps for the last stack, which training needs; official weights have none.
        round_targets: round targets as the official loader does.
    """

    last_head: bool = True
    round_targets: bool = False


@dataclass(frozen=True)
class ExtraConfig:
    """Options that the paper does not have; the first two pay at small sizes [ours].

    Attributes:
        stem: residual (paper), or strided: two strided convolutions.
        growth: channels that each level of an hourglass has more than the one outside it (paper: 0).
        flip_test: return the mean of the crop's and the mirrored crop's points; twice the time.
    """

    stem: Literal["residual", "strided"] = "residual"
    growth: int = 0
    flip_test: bool = False

    def __post_init__(self) -> None:
        check_ranges("extra", self, growth="[0, 1024]")


class SpigaTask(LandmarkTask):
    """Multitask backbone, projected mean face and graph attention cascade (Prados-Torreblanca et al., BMVC 2022).

    Args:
        scheme: landmark scheme: wflw98, ibug68, merlrav68 or a file of your own.
        input_size: side of the crops in pixels; 16 * 2 ** depth.
        stage: what is trained: 1 maps of points and edges; 2 these and the head pose; 3 the cascade, on a backbone that
            is frozen, BatchNorm statistics included.
        stage_epochs: epochs of stages 1 and 2 in a run that goes through all three; empty for a run of one stage.
        stacks: hourglasses (paper: 4).
        width: features (paper: 256), a multiple of 32; the graph's embeddings have twice as many.
        depth: levels of each hourglass (paper: 4).
        graph: the cascade's steps, and which points attend to each other.
        mean_face: file of the 3D mean face, .npy or .txt; None for this project's own. Kept with the weights, so that
            it need not be there when they are used.
        answer: what predictions are: cascade, pose (the projected mean face), maps, or auto for the stage's.
        loss: factors of the loss terms.
        official: quirks of the official implementation.
        extra: options that the paper does not have.
        threshold: FR and AUC threshold in percent of the normaliser.
        train: optimiser, schedule, moving average and photometric changes.
    """

    METHOD = "spiga"
    REMOVED: ClassVar[dict[str, object]] = {"release_crop": False}
    MOVED: ClassVar[dict[str, str]] = LandmarkTask.MOVED | {
        "steps": "graph.steps",
        "graph": "graph.kind",
        "knn": "graph.knn",
        "coordinate_weight": "loss.coordinate",
        "attention_weight": "loss.attention",
        "pose_weight": "loss.pose",
        "last_head": "official.last_head",
        "round_targets": "official.round_targets",
    }

    def __init__(
        self,
        scheme: str = "wflw98",
        input_size: int = 256,
        stage: int = 3,
        stage_epochs: tuple[int, ...] = (),
        stacks: int = 4,
        width: int = 256,
        depth: int = 4,
        graph: GraphConfig = GraphConfig(),  # noqa: B008 - frozen
        mean_face: str | None = None,
        answer: Literal["auto", "maps", "pose", "cascade"] = "auto",
        loss: LossWeights = LossWeights(),  # noqa: B008
        official: OfficialConfig = OfficialConfig(),  # noqa: B008
        extra: ExtraConfig = ExtraConfig(),  # noqa: B008
        threshold: float = 10.0,
        train: TrainConfig = TRAIN,
    ) -> None:
        super().__init__(scheme, input_size, threshold, train)
        self.save_hyperparameters(ignore=["mean_face"])
        check_range("model.stacks", stacks, "[1, 64]")
        check_range("model.width", width, "[32, 4096]")
        check_range("model.depth", depth, "[1, 8]")
        self._check(stage, stage_epochs, official, answer)
        self.stage_epochs = tuple(stage_epochs)
        self.given_face = mean_face
        self.answer = STAGE_ANSWER[stage] if answer == "auto" else answer
        self.loss_weights, self.flip_test = loss, extra.flip_test
        if self.scheme.text and graph.kind == "knn":
            raise LabError(f"graph.kind knn needs a mean face from the start, which scheme {self.scheme.name} has not; "
                           "use complete or anatomical")  # fmt: skip
        own = default_mean_face(self.scheme)
        face = own if mean_face is None else read_mean_face(mean_face, self.scheme)
        # The graph's neighbours come from our own face, so that they are the same wherever the weights are used.
        edges = make_edges(graph.kind, self.scheme, own, graph.knn)
        try:
            self.net = SpigaNet(
                self.scheme.num_points, edge_curves(self.scheme), self.scheme.singles, face, edges, input_size,
                stacks, width, depth, graph.steps, official.last_head, extra.stem, extra.growth,
            )  # fmt: skip
        except ValueError as error:
            raise LabError(f"model: {error}") from None
        self.targets = TargetMaker(self.scheme, input_size, self.net.map_size, official.round_targets)
        self.stage = stage
        self.set_stage(stage)

    def _check(self, stage: int, epochs: tuple[int, ...], official: OfficialConfig, answer: str) -> None:
        if stage not in STAGES or len(epochs) not in (0, 2) or min(epochs, default=1) < 1:
            raise LabError(f"stage must be 1, 2 or 3 and stage_epochs empty or two numbers of epochs, got {stage} and "
                           f"{list(epochs)}")  # fmt: skip
        if epochs and stage != STAGES[-1]:
            raise LabError(f"a run with stage_epochs ends in stage {STAGES[-1]}; leave --model.stage out")
        if not official.last_head and (stage < STAGES[-1] or epochs or answer == "maps"):
            raise LabError("last_head false is for official weights: stages 1 and 2 train the last stack's maps")

    # Stages.

    def _parts(self, stage: int) -> list[nn.Module]:
        """Return the modules that a stage trains."""
        backbone = self.net.backbone
        if stage == 1:
            return [module for name, module in backbone.named_children() if name != "cores"]
        return [backbone, self.net.pose] if stage == 2 else [self.net.cascade]

    def set_stage(self, stage: int) -> None:
        """Train what the stage trains; everything else is frozen, statistics included."""
        self.stage = stage
        self.net.requires_grad_(False)
        for module in self._parts(stage):
            module.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> SpigaTask:
        super().train(mode)
        if self.stage == STAGES[-1]:  # BatchNorm would follow the batches even without gradients
            self.net.backbone.eval()
        return self

    def parameter_groups(self) -> list[ParameterGroup]:
        whole = bool(self.stage_epochs) and self._trainer is not None
        modules: list[nn.Module] = [self.net] if whole else self._parts(self.stage)
        return [{"name": "all", "params": [p for module in modules for p in module.parameters()]}]

    def on_train_epoch_start(self) -> None:
        if self.stage_epochs:
            first, second = self.stage_epochs
            self.set_stage(1 + (self.current_epoch >= first) + (self.current_epoch >= first + second))

    def new_parts(self) -> tuple[str, ...]:
        # Official weights have no maps of the last stack, and the mean face is a file of its own.
        last = f"net.backbone.heads.{len(self.net.backbone.hourglasses) - 1}."
        return (last, "net.mean_face") if self.given_face else (last,)

    def prepare(self, train: CroppedFaces) -> None:
        """Estimate the mean face of a scheme of the user's own, unless the weights or a file brought it."""
        face = self.net.mean_face
        if self.scheme.text and torch.equal(face.cpu(), default_mean_face(self.scheme).float()):
            face.copy_(estimated_face(training_shapes(train.faces), self.scheme))

    # The common contract.

    def maps(self, batch: FaceBatch) -> dict[str, Tensor]:
        targets = self.targets(batch.points[..., :2] + HALF, batch.weight, self.net.mean_face)
        found = self.net.backbone(self.net.prepare(batch.image), cores="none").heads[-1]
        assert targets.points is not None and targets.edges is not None
        points = found.attended.flatten(2).softmax(-1).view_as(found.attended)
        return {
            "points, target": targets.points,
            "points": points,
            "edges, target": targets.edges,
            "edges": found.edges,
        }

    def network(self) -> nn.Module:
        return self.net

    def compiled_parts(self) -> list[nn.Module]:
        return [self.net.backbone, self.net.pose, *self.net.cascade]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return points (B, L, 2), shares of the side, and poses (B, 6) of RGB crops (B, 3, S, S)."""
        found: tuple[Tensor, Tensor] = self.net(image)
        return found

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        targets = self.targets(batch.points[..., :2] + HALF, batch.weight, self.net.mean_face, maps=self.stage < 3)
        bgr = self.net.prepare(batch.image)
        if self.stage == STAGES[-1]:
            with torch.no_grad():
                features = self.net.backbone(bgr, cores="last", last_head=False)
                pose = self.net.pose(features.cores[-1])
            steps, _ = self.net.refine(features.maps[-1], pose)
            loss = cascade_loss(steps[1:], targets)
            return {"loss": loss, "cascade": loss}
        features = self.net.backbone(bgr, cores="all" if self.stage == 2 else "none")
        parts = landmark_loss(features.heads, targets, self.loss_weights.coordinate, self.loss_weights.attention)
        if self.stage == 2:
            poses = [self.net.pose(core) for core in features.cores]
            parts["pose"] = self.loss_weights.pose * pose_loss(poses, targets)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        found = self._predict_crops(batch.image)
        if self.flip_test:
            # The pose stays that of the crop; a mirrored one would need its own way back.
            other = self._predict_crops(batch.image.flip(-1))
            pairs = [(one, self.mirror_back(two)) for one, two in zip(found.steps, other.steps, strict=True)]
            found.score = -disagreement(*pairs[-1])  # says more than the cascade's last move
            found.steps = [(one + two) / 2 for one, two in pairs]
            found.points = found.steps[-1]
        return found

    def _predict_crops(self, image: Tensor) -> Prediction:
        bgr = self.net.prepare(image)
        if self.answer == "maps":
            found = self.net.backbone(bgr, cores="none")
            steps, pose = [read_points(maps.attended) for maps in found.heads], None
            score = found.heads[-1].attended.float().flatten(2).softmax(-1).amax(-1)
        else:
            whole = self.net.predict(bgr)
            steps, pose = whole.steps, whole.poses[-1]
            score = -disagreement(steps[-2], steps[-1])  # how far the cascade still moved each point
            if self.answer == "pose":
                steps = steps[:1]
        pixels = [step.float() * self.input_size - HALF for step in steps]
        angles, place = (None, None) if pose is None else (pose[:, :3], pose[:, 3:])
        return Prediction(pixels[-1], score, angles, pixels, place)

    def decorate(self, canvas: np.ndarray, points: np.ndarray, pose: np.ndarray | None) -> np.ndarray:
        if pose is None:
            return canvas
        return draw_pose_axes(canvas, pose, points, points[list(origin(self.scheme)), :2].mean(0))

    def photograph_parts(self, official: bool) -> dict[str, GraphPart]:
        return official_parts(self.net) if official else {}

    def predict_official(
        self, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
    ) -> Prediction:
        return predict_official(self.net, image, boxes, nets)
