"""The whole method as one differentiable network: box, global stage (GSR), local stage (GLSR).

Shao, Xing, Lyu, Zhou, Shi, Maybank, "Robust Face Alignment via Deep Progressive Reinitialization and Adaptive
Error-driven Learning", TPAMI 2021; constants from the official code.
Frames: *image* is what comes in (a photograph, or a crop with rim), *face* the normalised crop of the global stage,
*part* the crop of a part. Shapes: B batch, L landmarks, G parts, n landmarks of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from common.geometry import compose_affine
from common.schemes import LandmarkScheme
from dpr.parts import mean_part, part_indices
from dpr.stages.backbone import STRIDES
from dpr.stages.regress import GlobalRegress, LocalRegress
from dpr.stages.reinit import SIZE, GlobalReinit, LocalReinit
from dpr.targets import part_target
from dpr.transform import box_map, invert, move_points, normalise, sample, scaled, theta_map


@dataclass
class Stages:
    """What each step returned.

    Attributes:
        box_map: (B, 2, 3) image -> reinitialisation crop.
        theta: (B, 2, 3) reinitialisation crop -> normalised crop of the same size, translation in its sides.
        face_map: (B, 2, 3) image -> face.
        offsets: (B, L, 2) from the mean face, in half sides.
        face_points: (B, L, 2) global landmarks, face pixels.
        points: (B, L, 2) the output, image pixels: GLSR's where the local stage ran, else GSR's.
        global_points: (B, L, 2) GSR's output, image pixels.
        part_theta: (B, G, 2, 3) face -> part, translation in the part crop's sides; None without the local stage.
        part_map: (B, G, 2, 3) face -> part, pixels; None without the local stage.
        part_offsets: for each part (B, n, 2), from the mean part, in half sides.
    """

    box_map: Tensor
    theta: Tensor
    face_map: Tensor
    offsets: Tensor
    face_points: Tensor
    points: Tensor
    global_points: Tensor
    part_theta: Tensor | None = None
    part_map: Tensor | None = None
    part_offsets: list[Tensor] = field(default_factory=list)


def throttled(x: Tensor, share: float) -> Tensor:
    """Return x as it is, with `share` times the gradient."""
    if share == 1.0:
        return x
    return x.detach() if share == 0.0 else x.detach() + share * (x - x.detach())


class DPRNet(nn.Module):
    """Progressive reinitialisation.

    Args:
        scheme: landmark scheme; parts come from it.
        mean_face: (L, 2), its unit square.
        local: with local reinitialisation and part regressors (GLSR).
        face_size: side of the face crop (official: 256).
        part_size: side of the part crops (official: 128).
        face_strides, part_strides: strides of the backbones' rows.
        points_in_pixels: the local reinitialisation takes face pixels as they are (official), else [-1, 1].
        context: side of a square image over the side of the box in its middle, for calls without a box.
        part_source: face (official: parts are cut out of the face crop) or image (cut once more from the image).
        detach_face: no gradient from part crops to the face crop (2017 prototype).
        theta_gradient: factor of the gradient that reaches the reinitialisation networks through the crops; 1 is plain
            end-to-end training, 0 none. Early in training this gradient is a hundred times the supervised one, and
            noise [ours].
        point_gradient: factor of the gradient that reaches the global regression through the landmarks that the local
            reinitialisation sees; a young local stage's gradient would pull the landmarks off their places [ours].
    """

    mean_face: Tensor
    mean_known: Tensor
    local_started: Tensor

    def __init__(
        self,
        scheme: LandmarkScheme,
        mean_face: Tensor,
        local: bool = True,
        face_size: int = 256,
        part_size: int = 128,
        face_strides: Sequence[int] = STRIDES,
        part_strides: Sequence[int] = STRIDES,
        points_in_pixels: bool = True,
        context: float = 1.0,
        part_source: str = "face",
        detach_face: bool = True,
        theta_gradient: float = 1.0,
        point_gradient: float = 1.0,
    ) -> None:
        super().__init__()
        self.face_size, self.part_size, self.context = face_size, part_size, context
        self.part_source, self.detach_face, self.rounded = part_source, detach_face, False
        self.sampler: Callable[[Tensor, Tensor, int, bool], Tensor] = sample  # another one for official weights
        self.theta_gradient, self.point_gradient = theta_gradient, point_gradient
        self.parts = part_indices(scheme)
        self.register_buffer("mean_face", mean_face.to(torch.float64))
        # Whether mean face and local networks are more than stand-ins; stored, so that a resumed run keeps them.
        self.register_buffer("mean_known", torch.tensor(False))
        self.global_reinit = GlobalReinit()
        self.global_regress = GlobalRegress(scheme.num_points, face_size, face_strides)
        self.local_reinit: LocalReinit | None = None
        self.local_regress: LocalRegress | None = None
        if local:
            unit = (1.0, 0.0) if points_in_pixels else (2 / face_size, -1.0)
            self.local_reinit = LocalReinit(scheme.num_points, len(self.parts), *unit)
            self.local_regress = LocalRegress([len(part) for part in self.parts], part_size, part_strides)
            self.register_buffer("local_started", torch.tensor(False))

    def set_mean_face(self, face: Tensor) -> None:
        """Take a mean face (L, 2), unit square, for the truth of the training set."""
        self.mean_face.copy_(face)
        self.mean_known.fill_(True)

    def start_local(self) -> None:
        """Start the local stage: backbones from the global one (official), maps that fit the mean face."""
        assert self.local_reinit is not None and self.local_regress is not None
        self.local_regress.copy_backbone(self.global_regress.backbone)
        face = (self.mean_face * self.face_size)[None]
        self.local_reinit.start_at(part_target(face, self.parts, self.mean_parts(), self.part_size)[0][0].float())

    def mean_parts(self) -> list[Tensor]:
        """Return the mean of each part (n, 2), its unit square."""
        return [mean_part(self.mean_face, part) for part in self.parts]

    def middle_box(self, image: Tensor) -> Tensor:
        """Return the boxes (B, 4) that a crop of `context` times the box holds in its middle."""
        height, width = image.shape[-2:]
        centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=image.device)
        half = torch.tensor([width, height], device=image.device) / (2 * self.context)
        return torch.cat([centre - half, centre + half]).expand(image.shape[0], 4)

    def forward(
        self, image: Tensor, box: Tensor | None = None, local: bool = True, point_noise: Tensor | None = None
    ) -> Stages:
        """Run the stages.

        Args:
            image: (B, 3, H, W) RGB, 0 to 255, uint8 or float.
            box: (B, 4) x0 y0 x1 y1, image pixels; None for the middle of the image.
            local: run the local stage too, if there is one.
            point_noise: (B, L, 2) face pixels, added to what the local reinitialisation sees (training).
        """
        image = image.float()
        stages, face = self.global_stage(image, self.middle_box(image) if box is None else box)
        if local and self.local_reinit is not None:
            self.locate_parts(stages, point_noise)
            self.refine(stages, face, image)
        return stages

    def reinitialise(self, image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps (B, 2, 3) image -> reinitialisation crop, and the network's output theta (B, 2, 3)."""
        to_box = box_map(box, SIZE)
        return to_box, self.global_reinit(normalise(self.sampler(image, to_box, SIZE, self.rounded)))

    def global_stage(self, image: Tensor, box: Tensor, face_map: Tensor | None = None) -> tuple[Stages, Tensor]:
        """Return the outputs of GSR and the face crop (B, 3, S, S), 0 to 255, for float images.

        Args:
            image, box: see `forward`.
            face_map: (B, 2, 3) image -> face, instead of the one that the reinitialisation returns (training).
        """
        to_box, theta = self.reinitialise(image, box)
        if face_map is None:
            face_map = scaled(
                compose_affine(theta_map(throttled(theta, self.theta_gradient), SIZE), to_box), self.face_size / SIZE
            )
        # From the image, not from the crop before: what lies outside the box comes in, at full sharpness.
        face = self.sampler(image, face_map, self.face_size, self.rounded)
        offsets = self.global_regress(normalise(face))
        face_points = (0.5 * offsets + self.mean_face) * self.face_size
        points = move_points(invert(face_map), face_points)
        return Stages(to_box, theta, face_map, offsets, face_points, points, points), face

    def locate_parts(self, stages: Stages, point_noise: Tensor | None = None) -> None:
        """Add the maps from face to parts."""
        assert self.local_reinit is not None
        seen = throttled(stages.face_points, self.point_gradient)
        seen = seen if point_noise is None else seen + point_noise
        stages.part_theta = self.local_reinit(seen.float())
        stages.part_map = theta_map(throttled(stages.part_theta, self.theta_gradient), self.part_size)

    def refine(self, stages: Stages, face: Tensor, image: Tensor) -> None:
        """Add the part regressors' outputs; landmarks of no part keep GSR's values."""
        assert self.local_regress is not None and stages.part_map is not None
        stages.part_offsets = self.local_regress(normalise(self.part_crops(stages, face, image)))
        to_image, back = invert(stages.face_map), invert(stages.part_map)
        points, order = [stages.points], list(range(stages.points.shape[1]))
        for k, (part, mean) in enumerate(zip(self.parts, self.mean_parts(), strict=True)):
            for place, landmark in enumerate(part, sum(found.shape[1] for found in points)):
                order[landmark] = place
            found = (0.5 * stages.part_offsets[k] + mean) * self.part_size
            points.append(move_points(to_image, move_points(back[:, k], found)))
        # Chosen, not assigned: some exported graphs cannot assign to a part of two or three points.
        stages.points = torch.cat([values.to(stages.points.dtype) for values in points], dim=1)[:, order]

    def part_crops(self, stages: Stages, face: Tensor, image: Tensor) -> Tensor:
        """Return the crops (B, G, 3, S, S) of all parts, 0 to 255, in one call of the sampler."""
        assert stages.part_map is not None
        maps, groups = stages.part_map, len(self.parts)
        source = face
        if self.part_source == "image":
            maps, source = compose_affine(maps, stages.face_map[:, None]), image
        if self.detach_face:
            source = source.detach()
        tiled = source[:, None].expand(-1, groups, -1, -1, -1).flatten(0, 1)
        return self.sampler(tiled, maps.flatten(0, 1), self.part_size, self.rounded).unflatten(0, (-1, groups))
