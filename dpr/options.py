"""Options of progressive reinitialisation: network, losses, and the curriculum of their training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import check_ranges
from dpr.loss import ErrorKind, Weighting
from dpr.stages.backbone import STRIDES


@dataclass(frozen=True)
class NetworkConfig:
    """Crops and networks of both stages.

    Attributes:
        face_size: side of the face crop (official: 256).
        part_size: side of the part crops (official: 128).
        face_strides: strides of the face backbone's eight rows; smaller crops want fewer 2s.
        part_strides: the same of the parts' backbone.
        points_in_pixels: the local reinitialisation takes pixels (official) instead of [-1, 1] (trains better).
        part_source: face: parts are cut out of the face crop (official); image: out of the image once more.
        detach_face: no gradient from part crops into the face crop (2017 prototype).
        theta_gradient: share of the landmark losses' gradient that reaches the reinitialisation through the crops;
            1 is the paper's end-to-end training, and wants reinitialisation networks that were trained before.
        point_gradient: share of the local stage's gradient that reaches the global regression through the landmarks
            that the local reinitialisation sees; 1 is end to end.
        init: he: starting weights that keep the size of activations [ours]; released: those of the official code,
            with which learning sets in very late.
        rounded: round crops to 8 bits outside training, as the official implementation does.
        context: side of the crop over the side of the box, for batches without boxes (--data.crop.box_scale).

    Raises:
        LabError: a value is out of its range.
    """

    face_size: int = 256
    part_size: int = 128
    face_strides: tuple[int, ...] = tuple(STRIDES)
    part_strides: tuple[int, ...] = tuple(STRIDES)
    points_in_pixels: bool = False
    part_source: Literal["face", "image"] = "face"
    detach_face: bool = True
    theta_gradient: float = 1.0
    point_gradient: float = 1.0
    init: Literal["he", "released"] = "he"
    rounded: bool = False
    context: float = 1.5

    def __post_init__(self) -> None:
        check_ranges("net", self, face_size="[8, 4096]", part_size="[8, 4096]", theta_gradient="[0, 1]",
                     point_gradient="[0, 1]", context="(0, 100]")  # fmt: skip


@dataclass(frozen=True)
class LossConfig:
    """Targets and losses.

    Attributes:
        weighting: see `LandmarkLoss`.
        error: see `LandmarkLoss`.
        plain_steps: steps with equal weights before `weighting` sets in.
        reinit_weight: factor of the reinitialisation losses.
    """

    weighting: Weighting = "inverse"
    error: ErrorKind = "squared"
    plain_steps: int = 0
    reinit_weight: float = 1.0

    def __post_init__(self) -> None:
        check_ranges("loss", self, plain_steps="[0, inf)", reinit_weight="[0, inf)")


@dataclass(frozen=True)
class CurriculumConfig:
    """Which network learns when, how fast, and from what.

    Attributes:
        point_noise: sd of the noise on the landmarks that the local reinitialisation sees in training, in face sides.
        reinit_lr: learning rate of the reinitialisation networks beside a regressor's (2017: 0.001 to 0.02 for such
            layers; a map that runs away takes the face out of sight).
        global_lr: learning rate of the global networks over the local ones', in stage glsr.
        teacher_until: epoch up to which the global regression learns on faces normalised by their true landmarks, with
            the errors of `MapNoise`, instead of by the reinitialisation, which learns beside it; for runs that start
            both networks at once [ours].
        local_from: epoch in which the local stage begins to learn; before it, a run of stage glsr is one of stage gsr,
            and returns GSR's points.
    """

    point_noise: float = 0.0
    reinit_lr: float = 0.1
    global_lr: float = 0.1
    teacher_until: int = 0
    local_from: int = 0

    def __post_init__(self) -> None:
        check_ranges("curriculum", self, point_noise="[0, 1]", reinit_lr="[0, 1000]", global_lr="[0, 1000]",
                     teacher_until="[0, inf)", local_from="[0, inf)")  # fmt: skip
