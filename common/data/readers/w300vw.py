"""300VW: 114 clips with 68 points in every frame (Shen et al., ICCV workshops 2015)."""

from __future__ import annotations

from pathlib import Path

from common.data.base import check_root, each, files_in
from common.data.readers._listed import Face, ListedFaces, make_face
from common.data.readers._pts import read_pts
from common.errors import LabError
from common.schemes import IBUG68

# Test clips by the organisers' categories: good light; unlike light; unlike light, occlusions, poses, expressions.
CATEGORIES: dict[str, tuple[int, ...]] = {
    "category1": (114, 124, 125, 126, 150, 158, 401, 402, 505, 506, 507, 508, 509, 510, 511, 514, 515, 518, 519, 520,
                  521, 522, 524, 525, 537, 538, 540, 541, 546, 547, 548),
    "category2": (203, 208, 211, 212, 213, 214, 218, 224, 403, 404, 405, 406, 407, 408, 409, 412, 550, 551, 553),
    "category3": (410, 411, 516, 517, 526, 528, 529, 530, 531, 533, 557, 558, 559, 562),
}  # fmt: skip
CATEGORY = {f"{clip:03d}": name for name, clips in CATEGORIES.items() for clip in clips}
SPLITS = ("train", "test", *CATEGORIES)


class W300VW(ListedFaces):
    """300VW with its frames as pictures: CLIP/annot/000001.pts and CLIP/imgs/000001.jpg.

    The set is published with a video `vid.avi` a clip; `ffmpeg -i vid.avi -start_number 1 imgs/%06d.jpg` makes the
    frames. Points are read 1-based and returned 0-based; the box is their tight box; all count as visible. Subsets are
    the three categories of the official test of 64 clips.

    Args:
        root: folder of the clips.
        split: train (the 50 clips of no category), test (64), or one category.
        step: take every so many frames of a clip.

    Raises:
        LabError: no clip of the split is there, or a frame or a landmark file is missing or wrong.
    """

    subset_names = tuple(CATEGORIES)

    def __init__(self, root: str, split: str = "train", step: int = 1) -> None:
        self.root = check_root(root, "w300vw")
        if split not in SPLITS:
            raise LabError(f"w300vw has the splits {', '.join(SPLITS)}, not {split}")
        self.name, self.scheme = f"w300vw/{split}", IBUG68
        clips = [path for path in sorted(self.root.iterdir()) if (path / "annot").is_dir()]
        kinds = {clip: CATEGORY.get(clip.name, "train") for clip in clips}
        wanted = CATEGORIES if split == "test" else (split,)
        files = [file for clip in clips if kinds[clip] in wanted for file in files_in(clip, "annot/*.pts")[::step]]
        if not files:
            raise LabError(f"{self.root}: no clip of split {split} is there; give the folder of 001, 002, ...")
        self.faces = each(self._face, files)

    def _face(self, path: Path) -> Face:
        clip = path.parents[1]
        frames = [clip / "imgs" / f"{path.stem}{end}" for end in (".jpg", ".png")]
        image = next((frame for frame in frames if frame.is_file()), None)
        if image is None:
            film = (clip / "vid.avi").is_file()
            what = "make the frames of vid.avi by ffmpeg first" if film else "copy the clip again"
            raise LabError(f"{path}: its frame {frames[0]} is missing; {what}")
        subset = CATEGORY.get(clip.name)
        points = read_pts(path, self.scheme.num_points) - 1
        return make_face(image, points, self.scheme, str(path), self.root, subsets=(subset,) if subset else ())
