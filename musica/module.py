"""Training and prediction of the selective cascade behind the common contract."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from common.errors import LabError
from common.task import LandmarkTask, check_choice
from common.types import FaceBatch, Prediction
from musica.augment import PaperAugment
from musica.cascade import CascadeRun
from musica.ema import AveragedNet
from musica.losses import CascadeLoss
from musica.network import CascadeNet
from musica.patch_sets import patch_sets
from musica.policy import ExitPolicy, read_policy
from musica.start import default_shape, mean_shape

ORIGINS = ("crop", "box")


class MusicaTask(LandmarkTask):
    """Selective cascaded regression with patch attention (Shapira, Levy, Goldin, Jevnisek, ACM MM 2021).

    Args:
        scheme: landmark scheme.
        input_size: side of the crops in pixels (paper: a box of 142 px with margins of 0.3, which is about 228).
        patches: landmarks that get a patch: all, every_second (released), two_of_three, a named set, or the
            indices; or a list of these, one for each iteration.
        iterations: 2, 3 (released) or 4.
        levels: level of the pyramid of each iteration; None for the paper's (3 iterations: 2, 1, 0).
        units: hidden units (released: 512).
        rank: factor the hidden layer's matrix through so many numbers, which makes it smaller; 0 does not.
        hidden_bits: keep the hidden layer of a trained network as integers of 8 or 16 bits (`musica.shrink` makes such
            checkpoints); it can't be trained. 0 keeps floating point.
        sampling: bilinear (the gradient reaches the coordinates) or official (truncation, for released weights).
        init: first weights, released or fan_in (learns faster, see `musica.network.Stage`).
        detach: no gradient runs between iterations (released: it does), so that early ones become better.
        dropout: chance that a patch's feature does not reach the hidden layer in training (released: 0).
        hidden_lr: learning rate of the hidden layers' matrices (with `rank`, of the factors that meet the patches) as a
            share of `lr`: one for all or one for each iteration (released: 1).
        loss: l1 (released) or rmse, see `musica.losses`.
        error_share: weight of the error term against the landmark term (released: 0.05).
        ema_decay: of the moving average of the weights, which evaluation uses (released: 0.9999); 0 for none.
        origin: where the start shape counts from: the crop's first pixel, or the box's corner (released weights).
        start_from: for each iteration, the one (from 1) of `init_from`'s cascade whose averaged weights it starts from;
            None for the same cascade again.
        start_faces: most faces of the training set that the mean shape is made from.
        paper_augment: colour, occlusion and grey changes of the paper, beside the geometry of the crop.
        policy: file of `python -m musica.exit_policy`; with it, faces leave the cascade early at prediction. It is
            not kept in checkpoints, so that `--model.policy` always says which one is used.
    """

    METHOD = "musica"

    def __init__(
        self,
        scheme: str = "wflw98",
        input_size: int = 228,
        patches: str | list[int] | list[str | list[int]] = "every_second",
        iterations: int = 3,
        levels: list[int] | None = None,
        units: int = 512,
        rank: int = 0,
        hidden_bits: int = 0,
        sampling: str = "bilinear",
        init: str = "released",
        detach: bool = False,
        dropout: float = 0.0,
        hidden_lr: float | list[float] = 1.0,
        loss: str = "l1",
        error_share: float = 0.05,
        ema_decay: float = 0.9999,
        origin: str = "crop",
        start_from: list[int] | None = None,
        start_faces: int = 1000,
        paper_augment: bool = False,
        policy: str | None = None,
        threshold: float = 10.0,
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        schedule: str = "multistep",
        milestones: tuple[int, ...] = (),
        gamma: float = 0.1,
        warmup_steps: int = 0,
        augment: dict[str, float] | None = None,
        compile_net: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__(
            scheme, input_size, threshold, optimizer, lr, weight_decay, momentum, schedule, milestones, gamma,
            warmup_steps, augment, compile_net, channels_last,
        )  # fmt: skip
        self.save_hyperparameters(ignore=["policy"])
        if not 0 <= ema_decay < 1:
            raise LabError(f"ema_decay must be in [0, 1), got {ema_decay}")
        self.hidden_shares = hidden_lr if isinstance(hidden_lr, list) else [hidden_lr] * iterations
        if len(self.hidden_shares) != iterations or min(self.hidden_shares) <= 0:
            raise LabError(f"hidden_lr must be a positive number or {iterations} of them, got {hidden_lr}")
        if start_from is not None and len(start_from) != iterations:
            raise LabError(f"start_from must name {iterations} iterations, got {start_from}")
        self.origin, self.start_faces = check_choice("origin", origin, ORIGINS), start_faces
        indices = patch_sets(patches, self.scheme.num_points)
        self.net = CascadeNet(
            self.scheme.num_points, indices, iterations, units, rank, sampling, levels, init, detach, hidden_bits,
            dropout,
        )  # fmt: skip
        self.net.start.copy_(default_shape(self.scheme, input_size))
        self.ema = AveragedNet(self.net, ema_decay) if ema_decay else None
        self.objective = CascadeLoss(self.scheme.corners, loss, error_share)
        self.paper_augment = PaperAugment() if paper_augment else None
        self.policy: ExitPolicy | None = None
        if policy is not None:
            self.policy = read_policy(policy, iterations, self.scheme.name)

    def network(self) -> nn.Module:
        fitting = self._trainer is not None and self.trainer.state.fn == "fitting"
        return self.net if fitting else self.evaluated()

    def evaluated(self) -> CascadeNet:
        """Return the network that predicts: the moving average, once there is one."""
        if self.ema is not None and self.ema.started:
            assert isinstance(self.ema.net, CascadeNet)
            return self.ema.net
        return self.net

    def new_parts(self) -> tuple[str, ...]:
        # Converted weights are averages already and bring no second copy; without a file of the start shape, the
        # default one stays.
        return ("ema.", "net.start")

    def start_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        chosen = self.hparams["start_from"]
        if chosen is None:
            return state
        source = "ema.net." if any(key.startswith("ema.net.") for key in state) else "net."
        found = {"net.start": state[f"{source}start"]}
        for place, number in enumerate(chosen):
            head = f"{source}stages.{number - 1}."
            part = {key.removeprefix(head): value for key, value in state.items() if key.startswith(head)}
            if not part:
                raise LabError(f"start_from: the cascade to start from has no iteration {number}")
            found |= {f"net.stages.{place}.{key}": value for key, value in part.items()}
        return found

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and self.origin == "crop" and data is not None:
            cropped = data.cropped("train")
            self.net.start.copy_(mean_shape(cropped.faces, cropped.config, self.start_faces))

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

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.hparams["hidden_bits"]:
            raise LabError("integers can't be trained: train with hidden_bits 0, then call musica.shrink")

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        if self.paper_augment is not None and self.training:
            batch = self.paper_augment(batch, self._augment_generator())
        run = self(batch)
        truth = batch.points[..., :2].flip(-1)
        parts: dict[str, Tensor] = self.objective(run.points, run.errors, truth, batch.weight)
        return parts

    def parameter_groups(self) -> list[dict[str, Any]]:
        if self.hparams["hidden_lr"] == 1:
            return super().parameter_groups()
        # Adaptive steps move every weight equally far, however many inputs add up: with thousands of them, the step
        # that suits a convolution drives the hidden units into the ends of their tanh within a few batches.
        (group,) = super().parameter_groups()
        hidden = [stage.hidden_matrix for stage in self.net.stage_list]
        own = {id(matrix) for matrix in hidden}
        return [{**group, "params": [parameter for parameter in group["params"] if id(parameter) not in own]}] + [
            {"name": f"hidden{number}", "params": [matrix], "lr": self.lr * share}
            for number, (matrix, share) in enumerate(zip(hidden, self.hidden_shares, strict=True), 1)
        ]

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()
        for group in configured["optimizer"].param_groups:
            # One pass over the weights instead of several: with 20 M of them, four times as fast on a CPU.
            if "fused" in group and not group.get("capturable"):
                group["fused"] = True
        return configured

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.ema is not None:
            self.ema.update(self.net)

    def run_cascade(self, batch: FaceBatch) -> CascadeRun:
        """Run the network that predicts, with the policy's exit where there is one."""
        net = self.evaluated()
        net.exit_below = self.policy.exit_below if self.policy is not None else None
        run: CascadeRun = net(batch.image, self._origin(batch))
        return run

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        return self._prediction(self.run_cascade(batch))

    def _prediction(self, run: CascadeRun) -> Prediction:
        steps = [points.flip(-1) for points in run.points]
        score = -run.errors[-1][:, None].expand(-1, self.scheme.num_points)
        return Prediction(points=steps[-1], score=score, steps=steps)

    def predict_step(self, batch: FaceBatch, batch_idx: int) -> dict[str, Any]:
        """Return ids and points as every method, and per face: predicted error, iterations, failure flag."""
        run = self.run_cascade(batch)
        prediction = self._prediction(run)
        fail_above = self.policy.fail_above if self.policy is not None else float("inf")
        assert prediction.score is not None
        return {
            "ids": batch.ids,
            "points": self.to_image_pixels(prediction.points, batch).detach().cpu(),
            "score": prediction.score.detach().cpu(),
            "predicted_error": run.errors[-1].detach().cpu(),
            "iterations": run.iterations.cpu(),
            # An error that is no number is a failure too.
            "failed": ~(run.errors[-1] <= fail_above).cpu(),
        }
