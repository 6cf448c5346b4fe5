"""Training and prediction of the selective cascade, combined in one LightningModule."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from common import trains
from common.data.batching import CroppedFaces
from common.errors import LabError, check_range, check_ranges
from common.export.graph import CropGraph, GraphPart, Net
from common.task import LandmarkTask
from common.train_config import ParameterGroup, TrainConfig
from common.types import FaceBatch, Prediction
from musica.augment import PaperAugment
from musica.exit import ExitPolicy, read_policy
from musica.exit.graphs import iterations, run_by_grids
from musica.loss import CascadeLoss
from musica.network import CascadeNet
from musica.original import run_official
from musica.patches import patch_sets
from musica.targets import default_shape, mean_shape
from musica.types import CascadeRun

Share = float | list[float]
PATIENCE = 5.0  # seconds of the network's own work before a process that only predicts loads the compiled loops
TRAIN = TrainConfig(optimizer="adam", lr=1e-3, schedule="multistep", ema=0.9999)


@dataclass(frozen=True)
class NetworkConfig:
    """The cascade's iterations and layers.

    Attributes:
        patches: landmarks that get a patch: all, every_second (official), two_of_three, a named set, or the indices;
            or a list of these, one for each iteration. In a scheme of your own, all in place of a named set.
        iterations: 2, 3 (official), 4 or 5.
        levels: level of the pyramid of each iteration; None for the paper's (3 iterations: 2, 1, 0).
        units: hidden units (official: 512).
        rank: factor the hidden layer's matrix through so many numbers, which makes it smaller; 0 does not.
        attention_rank: the same for the attention's matrix.
        sampling: bilinear (the gradient reaches the coordinates) or official (truncation, for official weights).
        init: first weights, released or fan_in (learns faster, see `musica.network.Stage`).
        detach: no gradient runs between iterations (official: it does), so that early ones become better.
        dropout: chance that a patch's feature does not reach the hidden layer in training (official: 0).
    """

    patches: str | list[int] | list[str | list[int]] = "every_second"
    iterations: int = 3
    levels: list[int] | None = None
    units: int = 512
    rank: int = 0
    attention_rank: int = 0
    sampling: Literal["bilinear", "official"] = "bilinear"
    init: Literal["released", "fan_in"] = "released"
    detach: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_ranges("net", self, iterations="[2, 5]", units="[1, 65536]", rank="[0, 65536]",
                     attention_rank="[0, 65536]", dropout="[0, 1)")  # fmt: skip


@dataclass(frozen=True)
class RateConfig:
    """Learning rates as shares of `train.lr`: one for all iterations or one for each.

    Attributes:
        iteration: of an iteration's other weights (official: 1).
        hidden: of the hidden layers' matrices (with `rank`, of the factors that meet the patches).
        output: of the layers that return displacements and error.
    """

    iteration: Share = 1.0
    hidden: Share = 1.0
    output: Share = 1.0

    def each(self, iterations: int) -> dict[str, list[float]]:
        """Return the shares of each iteration.

        Raises:
            LabError: the number of shares is another, or one is out of its range.
        """
        found: dict[str, list[float]] = {}
        for name, given in (("iteration", self.iteration), ("hidden", self.hidden), ("output", self.output)):
            found[name] = given if isinstance(given, list) else [given] * iterations
            if len(found[name]) != iterations:
                raise LabError(f"rates.{name} must be a number or {iterations} of them, got {given}")
            check_range(f"rates.{name}", found[name], "(0, 1000]")
        return found


@dataclass(frozen=True)
class LossConfig:
    """Training objective.

    Attributes:
        kind: l1 (official) or rmse, see `musica.loss`.
        error_share: weight of the error term against the landmark term (official: 0.05).
    """

    kind: Literal["l1", "rmse"] = "l1"
    error_share: float = 0.05


class MusicaTask(LandmarkTask):
    """Selective cascaded regression with patch attention (Shapira, Levy, Goldin, Jevnisek, ACM MM 2021).

    Args:
        scheme: landmark scheme.
        input_size: side of the crops in pixels (paper: a box of 142 px with margins of 0.3, which is about 228).
        net: the cascade's iterations and layers.
        rates: learning rates of iterations and layers.
        loss: training objective.
        origin: where the start shape counts from: the crop's first pixel, or the box's corner (official weights).
        start_faces: most faces of the training set that the mean shape is made from.
        paper_augment: colour, occlusion and grey changes of the paper, beside the geometry of the crop.
        policy: file of `python -m musica.choose_exit`; with it, faces leave the cascade early at prediction. It is
            not kept in checkpoints, so that `--model.policy` always says which one is used.
        threshold: FR and AUC threshold in percent of the normaliser.
        train: optimiser, schedule, moving average (official: 0.9999) and photometric changes.
    """

    METHOD = "musica"
    REMOVED: ClassVar[dict[str, object]] = {"hidden_bits": 0}
    MOVED: ClassVar[dict[str, str]] = (
        LandmarkTask.MOVED
        | {name: f"net.{name}" for name in NetworkConfig.__dataclass_fields__}
        | {f"{name}_lr": f"rates.{name}" for name in RateConfig.__dataclass_fields__}
        | {"loss": "loss.kind", "error_share": "loss.error_share", "ema_decay": "train.ema"}
    )

    def __init__(
        self,
        scheme: str = "wflw98",
        input_size: int = 228,
        net: NetworkConfig = NetworkConfig(),  # noqa: B008 - frozen
        rates: RateConfig = RateConfig(),  # noqa: B008
        loss: LossConfig = LossConfig(),  # noqa: B008
        origin: Literal["crop", "box"] = "crop",
        start_faces: int = 1000,
        paper_augment: bool = False,
        policy: str | None = None,
        threshold: float = 10.0,
        train: TrainConfig = TRAIN,
    ) -> None:
        super().__init__(scheme, input_size, threshold, train)
        self.save_hyperparameters(ignore=["policy"])
        check_range("model.start_faces", start_faces, "[1, inf)")
        self.net_config = net
        self.shares = rates.each(net.iterations)
        self.origin = origin
        self.start_faces = start_faces
        options = asdict(net)
        indices = patch_sets(options.pop("patches"), self.scheme.num_points, bool(self.scheme.text))
        self.net = CascadeNet(self.scheme.num_points, indices, **options)
        self.net.start.copy_(default_shape(self.scheme, input_size))
        self._native: Any = None  # a NativeCascade, once it is wanted
        self._worked = 0.0 if not trains() else PATIENCE
        self.objective = CascadeLoss(self.scheme.corners, loss.kind, loss.error_share)
        self.paper_augment = PaperAugment() if paper_augment else None
        self.policy: ExitPolicy | None = None
        if policy is not None:
            self.policy = read_policy(policy, net.iterations, self.scheme.name, self.ranks)

    @property
    def ranks(self) -> tuple[int, int]:
        """Ranks of the hidden layers and of the attention; 0 for whole ones."""
        return self.net_config.rank, self.net_config.attention_rank

    def network(self) -> nn.Module:
        return self.net

    def cascade(self, image: Tensor) -> Callable[..., CascadeRun]:
        """Return what predicts crops: compiled loops where they can work, else the network itself.

        Both take crops (B, 3, S, S), origins (B, 2) or None, and thresholds or None, see `CascadeNet.forward`.
        """
        net = self.net
        if self._worked < PATIENCE:
            return net
        from common.native import usable  # here: their import takes longer than a picture
        from musica.native.loops import NativeCascade

        if not (usable(image, net.start) and net.start.dtype == torch.float32):
            return net
        if image.dtype not in (torch.uint8, torch.float32):
            return net
        if self._native is None or self._native.net is not net or not self._native.current():
            self._native = NativeCascade(net)
        return self._native if self._native.usable else net

    def run_crops(
        self, image: Tensor, origin: Tensor | None = None, exit_below: Sequence[float] | None = None
    ) -> CascadeRun:
        """Run what predicts on crops (B, 3, S, S); the arguments are those of `CascadeNet.forward`."""
        start = time.perf_counter()
        run = self.cascade(image)(image, origin, exit_below)
        self._worked += time.perf_counter() - start
        return run

    def inference(self) -> Callable[[Tensor], CascadeRun]:
        return self.run_crops

    def exportable(self) -> CropGraph:
        return CropGraph(self, lambda batch: self.prediction(run_by_grids(self.net, batch.image, self._origin(batch))))

    def export_parts(self) -> dict[str, GraphPart]:
        return iterations(self.net, self.input_size, self.origin == "box")

    def new_parts(self) -> tuple[str, ...]:
        # Without a file of the start shape, the default one stays.
        return ("net.start",)

    def prepare(self, train: CroppedFaces) -> None:
        if self.origin == "crop":
            self.net.start.copy_(mean_shape(train.faces, train.config, self.start_faces))

    def _origin(self, batch: FaceBatch) -> Tensor | None:
        if self.origin == "crop":
            return None
        if batch.box is None:
            raise LabError("origin box needs the data set's boxes; this batch has none")
        return batch.box[:, [1, 0]]

    def forward(self, batch: FaceBatch) -> CascadeRun:
        """Run the trained weights, all iterations, without the exit."""
        run: CascadeRun = self.net(batch.image, self._origin(batch))
        return run

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        if self.paper_augment is not None and self.training:
            batch = self.paper_augment(batch, self._augment_generator())
        run = self(batch)
        truth = batch.points[..., :2].flip(-1)
        parts: dict[str, Tensor] = self.objective(run.points, run.errors, truth, batch.weight)
        return parts

    def parameter_groups(self) -> list[ParameterGroup]:
        if all(share == 1 for shares in self.shares.values() for share in shares):
            return super().parameter_groups()
        # Adaptive steps move every weight equally far, however many inputs add up and however far an output has to
        # reach: with thousands of inputs, the step that suits a convolution saturates the tanh of the hidden units
        # within a few batches; in the first iteration, whose displacements are the largest, it is too short.
        groups: list[ParameterGroup] = []
        for place, stage in enumerate(self.net.stage_list):
            parts: dict[str, list[nn.Parameter]] = {"hidden": [stage.widest.kernel]}
            parts["output"] = list(stage.output.parameters())
            own = {id(parameter) for part in parts.values() for parameter in part}
            parts["iteration"] = [parameter for parameter in stage.parameters() if id(parameter) not in own]
            groups += [
                {
                    "name": f"{name}{place + 1}",
                    "params": part,
                    "lr": self.train_config.lr * self.shares[name][place],
                }
                for name, part in parts.items()
            ]
        return groups

    def run_cascade(self, batch: FaceBatch) -> CascadeRun:
        """Run the network that predicts, with the policy's exit where there is one."""
        exit_below = self.policy.exit_below if self.policy is not None else None
        return self.run_crops(batch.image, self._origin(batch), exit_below)

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        return self.prediction(self.run_cascade(batch))

    def prediction(self, run: CascadeRun) -> Prediction:
        """Return what every method returns, from a run of the cascade."""
        steps = [points.flip(-1) for points in run.points]
        score = -run.errors[-1][:, None].expand(-1, self.scheme.num_points)
        return Prediction(points=steps[-1], score=score, steps=steps)

    def predict_official(
        self, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
    ) -> Prediction:
        faces = run_official(
            self.net,
            [image] * len(boxes),
            list(boxes),
            self.policy.exit_below if self.policy is not None else None,
        )
        score = -faces.error[:, None].expand(-1, self.scheme.num_points)
        return Prediction(points=faces.steps[-1], score=score, steps=faces.steps)

    def predict_step(self, batch: FaceBatch, batch_idx: int) -> dict[str, Any]:
        """Return what every method returns, and per face: predicted error, iterations, failure flag."""
        with torch.autocast(batch.image.device.type, enabled=False):
            run = self.run_cascade(batch)
        prediction = self.prediction(run)
        fail_above = self.policy.fail_above if self.policy is not None else float("inf")
        found = {
            "rows": batch.rows,
            "points": self.to_image_pixels(prediction.points, batch),
            "score": prediction.score,
            "predicted_error": run.errors[-1],
            "iterations": run.iterations,
            # NaN is a failure, too.
            "failed": ~(run.errors[-1] <= fail_above),
        }
        return {"ids": batch.ids} | {name: value.detach().cpu() for name, value in found.items() if value is not None}
