"""Training and prediction of progressive reinitialisation: networks, boxes, targets and losses under the contract."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from common.data.batching import CroppedFaces
from common.data.shapes import rough_mean, training_shapes
from common.data.synthetic import DRAWN
from common.errors import check_range
from common.export.graph import GraphPart, Net
from common.geometry import disagreement
from common.task import LandmarkTask
from common.train_config import ParameterGroup, TrainConfig
from common.types import FaceBatch, Prediction
from dpr.boxes import BoxJitter, MapNoise, grow
from dpr.loss import LandmarkLoss, theta_loss
from dpr.network import DPRNet, Stages
from dpr.options import CurriculumConfig, LossConfig, NetworkConfig
from dpr.original import predict_official
from dpr.parts import neutral_face
from dpr.photograph import find, photograph_parts
from dpr.stages.backbone import initialise, initialise_he
from dpr.targets import (
    average_face,
    normalising_map,
    offset_target,
    part_target,
    reinit_target,
)
from dpr.transform import move_points

# Stage -> networks that learn; the others are frozen. Order of the paper's schedule.
Stage = Literal["reinit", "regress", "gsr", "local_reinit", "local_regress", "local", "glsr"]
STAGES: dict[str, tuple[str, ...]] = {
    "reinit": ("global_reinit",),
    "regress": ("global_regress",),
    "gsr": ("global_reinit", "global_regress"),
    "local_reinit": ("local_reinit",),
    "local_regress": ("local_regress",),
    "local": ("local_reinit", "local_regress"),
    "glsr": ("global_reinit", "global_regress", "local_reinit", "local_regress"),
}
SECOND_STREAM = 1  # draws of boxes and of photometric changes must not share their random numbers


TRAIN = TrainConfig(optimizer="adam", weight_decay=1e-5, schedule="cosine")


class DprTask(LandmarkTask):
    """Progressive reinitialisation with adaptive error-driven learning (Shao et al., TPAMI 2021).

    Args:
        scheme: landmark scheme.
        input_size: side of the batch's crops, which stand for the image; every later crop is cut out of them.
        stage: which networks learn: reinit, regress, gsr (both, end to end), local_reinit, local_regress, local,
            glsr (all four, end to end). Stages from local_reinit on have the local networks.
        net: crops and networks of both stages.
        loss: targets and losses.
        curriculum: which network learns when, how fast, and from what.
        box_grow: sides of the box that the network gets over those of the data set's box.
        jitter: training boxes; None trains on the data set's boxes as they are.
        flip_test: return the mean of a face and its mirror image; twice the work.
        threshold: FR and AUC threshold in percent of the normaliser.
        train: optimiser, schedule, moving average and photometric changes.
    """

    METHOD = "dpr"
    REMOVED: ClassVar[dict[str, object]] = {"reinit_target": "box", "hard_share": 1.0, "interocular": False}
    MOVED: ClassVar[dict[str, str]] = LandmarkTask.MOVED | {
        name: f"{group}.{name}"
        for group, kind in (("net", NetworkConfig), ("loss", LossConfig), ("curriculum", CurriculumConfig))
        for name in kind.__dataclass_fields__
    }

    def __init__(
        self,
        scheme: str = "wflw98",
        input_size: int = 256,
        stage: Stage = "gsr",
        net: NetworkConfig = NetworkConfig(),  # noqa: B008 - frozen
        loss: LossConfig = LossConfig(),  # noqa: B008
        curriculum: CurriculumConfig = CurriculumConfig(),  # noqa: B008
        box_grow: float = 1.0,
        jitter: BoxJitter | None = None,
        flip_test: bool = False,
        threshold: float = 10.0,
        train: TrainConfig = TRAIN,
    ) -> None:
        super().__init__(scheme, input_size, threshold, train)
        self.save_hyperparameters()
        check_range("model.box_grow", box_grow, "(0, 10]")
        self.stage = stage
        self.loss = loss
        self.curriculum = curriculum
        self.box_grow = box_grow
        self.jitter = jitter
        self.flip_test = flip_test
        self.rounded = net.rounded
        self.map_noise = MapNoise()
        self.with_local = any(name.startswith("local") for name in STAGES[stage])
        face = torch.from_numpy(average_face(neutral_face(self.scheme)[None], neutral_face(self.scheme),
                                             self.scheme.mirror))  # fmt: skip
        self.net = DPRNet(
            self.scheme, face, self.with_local, net.face_size, net.part_size, net.face_strides, net.part_strides,
            net.points_in_pixels, net.context, net.part_source, net.detach_face, net.theta_gradient, net.point_gradient,
        )  # fmt: skip
        if net.init == "he":
            start_he(self.net)
        if self.with_local:
            self.net.start_local()
        make = partial(LandmarkLoss, weighting=loss.weighting, error=loss.error, plain_steps=loss.plain_steps)
        self.global_loss = make(self.scheme.num_points)
        refined = sum(len(part) for part in self.net.parts)
        self.local_loss = make(refined) if self.with_local else None
        self._freeze()

    def network(self) -> nn.Module:
        return self.net

    def compiled_parts(self) -> list[nn.Module]:
        return list(self.net.children())

    def new_parts(self) -> tuple[str, ...]:
        """GLSR starts from GSR: the local stage is new. Losses keep no trained weights."""
        return ("net.local_", "global_loss.", "local_loss.")

    def _learning(self, kind: str) -> list[nn.Module]:
        """Return the trained networks whose names begin with `kind` (global or local), and their loss."""
        names = [name for name in STAGES[self.stage] if name.startswith(kind)]
        modules: list[nn.Module] = [getattr(self.net, name) for name in names]
        if any(name.endswith("regress") for name in names):
            modules.append(getattr(self, f"{kind}_loss"))
        return modules

    def _freeze(self) -> None:
        self.requires_grad_(False)
        for module in self._learning("global") + self._learning("local"):
            module.requires_grad_(True)

    def train(self, mode: bool = True) -> DprTask:
        """Switch to training; frozen networks keep the statistics they have."""
        super().train(mode)
        if mode:
            learning = {id(module) for module in self._learning("global") + self._learning("local")}
            for module in (*self.net.children(), self.global_loss, self.local_loss):
                if module is not None and id(module) not in learning:
                    module.eval()
        self.net.rounded = self.rounded and not mode
        return self

    def parameter_groups(self) -> list[ParameterGroup]:
        slow = self.curriculum.global_lr if self.stage == "glsr" else 1.0
        groups: list[ParameterGroup] = []
        for name in STAGES[self.stage]:
            rate = self.train_config.lr * (slow if name.startswith("global") else 1.0)
            if name.endswith("reinit") and len(STAGES[self.stage]) > 1:
                rate *= self.curriculum.reinit_lr
            groups.append({"name": name, "params": list(getattr(self.net, name).parameters()), "lr": rate})
        return groups

    def prepare(self, train: CroppedFaces) -> None:
        """Take the mean face from the training set, unless the weights brought theirs."""
        if not bool(self.net.mean_known):
            shapes = training_shapes(train.faces)
            upright = neutral_face(self.scheme) if self.scheme.name in DRAWN else rough_mean(shapes)
            mean = average_face(shapes, upright, self.scheme.mirror)
            self.net.set_mean_face(torch.from_numpy(mean))

    def on_train_epoch_start(self) -> None:
        """Start the local stage in its first epoch, from the global backbone as it is then (official)."""
        if self._local_learns() and not bool(self.net.local_started):
            self.net.start_local()
            self.net.local_started.fill_(True)

    def _local_learns(self) -> bool:
        return self.with_local and self.current_epoch >= self.curriculum.local_from

    def _local_answers(self) -> bool:
        """Return whether the local stage's points are returned: not before it has begun to learn."""
        return self.with_local and bool(self.net.local_started)

    # Training.

    def _generator(self) -> torch.Generator:
        """Return a generator for this step: a resumed run goes on with the same boxes."""
        seeds = [torch.initial_seed() % 2**63, self.global_step, SECOND_STREAM]
        return torch.Generator().manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))

    def given_box(self, batch: FaceBatch) -> Tensor:
        """Return the boxes (B, 4) that faces get outside training, crop pixels."""
        box = self.net.middle_box(batch.image) if batch.box is None else batch.box
        return grow(box, self.box_grow)

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        generator = self._generator()
        box = self.given_box(batch)
        if self.jitter is not None:
            box = self.jitter(batch, box, generator)
        image = batch.image.float()
        if self.stage == "reinit":
            to_box, theta = self.net.reinitialise(image, box)
            return self._sum({"reinit": self._reinit_loss(theta, to_box, batch)})
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self._learning("global"))):
            stages, face = self.net.global_stage(image, box, self._teacher_map(batch, generator))
        parts: dict[str, Tensor] = {}
        if "global_reinit" in STAGES[self.stage]:
            parts["reinit"] = self._reinit_loss(stages.theta, stages.box_map, batch)
        # Carried by the predicted map and constant: else the map could shrink the loss by shrinking the face.
        true = move_points(stages.face_map.detach(), batch.points[..., :2])
        if "global_regress" in STAGES[self.stage]:
            target = offset_target(true, self.net.mean_face, self.net.face_size)
            parts["global"] = self.global_loss(stages.offsets - target, batch.weight)
        if self._local_learns():
            parts |= self._local_losses(stages, face, image, true, batch, generator)
        return self._sum(parts)

    def _teacher_map(self, batch: FaceBatch, generator: torch.Generator) -> Tensor | None:
        """Return maps (B, 2, 3) image -> face from the true landmarks, or None once the network's own are used."""
        if self.current_epoch >= self.curriculum.teacher_until:
            return None
        points = batch.points[..., :2].to(self.net.mean_face.dtype)
        true = normalising_map(points, self.net.mean_face, batch.weight) * self.net.face_size
        return self.map_noise(true, self.net.face_size, generator)

    def _sum(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _reinit_loss(self, theta: Tensor, to_box: Tensor, batch: FaceBatch) -> Tensor:
        points = batch.points[..., :2]
        wanted = reinit_target(points, to_box, self.net.mean_face, batch.weight)
        return self.loss.reinit_weight * theta_loss(theta, wanted)

    def _local_losses(
        self, stages: Stages, face: Tensor, image: Tensor, true: Tensor, batch: FaceBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of the local stage; `true` (B, L, 2) are the true landmarks in face pixels."""
        noise = torch.randn(true.shape, generator=generator).to(true) * (
            self.curriculum.point_noise * self.net.face_size
        )
        self.net.locate_parts(stages, noise)
        assert stages.part_theta is not None and stages.part_map is not None
        losses: dict[str, Tensor] = {}
        if "local_reinit" in STAGES[self.stage]:
            parts = self.net.parts, self.net.mean_parts(), self.net.part_size
            wanted, known = part_target(true, *parts, batch.weight)
            losses["local_reinit"] = self.loss.reinit_weight * theta_loss(stages.part_theta, wanted, known)
        if "local_regress" in STAGES[self.stage]:
            self.net.refine(stages, face, image)
            residuals, maps = [], stages.part_map.detach()
            for k, (part, mean) in enumerate(zip(self.net.parts, self.net.mean_parts(), strict=True)):
                target = offset_target(move_points(maps[:, k], true[:, list(part)]), mean, self.net.part_size)
                residuals.append(stages.part_offsets[k] - target)
            assert self.local_loss is not None
            order = [point for part in self.net.parts for point in part]
            losses["local"] = self.local_loss(torch.cat(residuals, dim=1), batch.weight[:, order])
        return losses

    # Prediction.

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        found = self._steps(self.net(batch.image, self.given_box(batch), self._local_answers()))
        if self.flip_test:
            found = [(a + b) / 2 for a, b in zip(found, self._mirrored(batch), strict=True)]
        return self._answer([points.float() for points in found])

    def _answer(self, steps: list[Tensor]) -> Prediction:
        """Return the stages' points (B, L, 2) as a prediction, surer where both stages agree [ours].

        The score is minus the distance of the stages' points as a share of the face; points that no part refines get
        the mean of the others. GSR alone has none.
        """
        if len(steps) < 2:
            return Prediction(points=steps[-1], steps=steps)
        score = -disagreement(steps[-2], steps[-1])
        refined = sorted(point for part in self.net.parts for point in part)
        mask = torch.zeros(score.shape[1], dtype=torch.bool, device=score.device)
        mask[refined] = True
        mean = score[:, refined].mean(dim=1, keepdim=True)
        return Prediction(points=steps[-1], score=torch.where(mask, score, mean), steps=steps)

    def _steps(self, stages: Stages) -> list[Tensor]:
        """Return GSR's points and, where the local stage ran, GLSR's (B, L, 2)."""
        return [stages.global_points, stages.points] if stages.part_offsets else [stages.points]

    def _mirrored(self, batch: FaceBatch) -> list[Tensor]:
        """Return the steps' points (B, L, 2) found in the mirrored crops, mirrored back."""
        last = batch.image.shape[-1] - 1
        box = self.given_box(batch)
        box = torch.stack([last - box[:, 2], box[:, 1], last - box[:, 0], box[:, 3]], dim=1)
        steps = self._steps(self.net(batch.image.flip(-1), box, self._local_answers()))
        back = torch.tensor([-1.0, 1.0], device=box.device), torch.tensor([last, 0.0], device=box.device)
        return [points[:, list(self.scheme.mirror)] * back[0] + back[1] for points in steps]

    def photograph_parts(self, official: bool) -> dict[str, GraphPart]:
        return photograph_parts(self.net, official or self._local_answers())

    @torch.inference_mode()
    def predict_image(self, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None) -> Prediction:
        """Return points of the faces of a whole photograph, image pixels: every crop is cut out of the original.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (N, 4) x0 y0 x1 y1, image pixels, as the data set's boxes are.
            nets: what to run in place of `photograph_parts`.
        """
        box = grow(torch.from_numpy(np.asarray(boxes, np.float64)).to(self.device), self.box_grow)
        return self._answer(self._steps(find(self.net, image, box, self._local_answers(), nets)))

    def predict_official(
        self, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
    ) -> Prediction:
        return predict_official(self.net, image, boxes, nets)


def start_he(net: DPRNet) -> None:
    """Draw the starting weights of layers without BatchNorm anew, so that signals keep their size [ours].

    The layers that return landmarks stay small, so that the first outputs are the mean shapes.
    """
    for module in (net.global_reinit, net.global_regress.head, net.local_reinit):
        if module is not None:
            initialise_he(module)
    answers: list[nn.Module] = [net.global_regress.head[-1]]
    if net.local_regress is not None:
        initialise_he(net.local_regress.head)
        answers += net.local_regress.last
    for answer in answers:
        initialise(answer)
