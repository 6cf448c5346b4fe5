"""Landmarks of photographs and videos: `python -m common.predict PICTURE|FOLDER|VIDEO...`.

Faces are found by a detector, or given by --box or by a file NAME.rct beside the picture (one line: x0 y0 x1 y1).
Landmarks are written as they come, to predictions.json (or another --format) in the folder --out, with drawn pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common import only_predict
from common.errors import command

STOPPED = 130  # exit code after Ctrl-C, as shells have it


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    from common.export.fast import BACKENDS
    from common.export.runtime import PRECISIONS
    from common.prediction.detection import SCORE
    from common.prediction.results import FORMATS

    result = argparse.ArgumentParser(
        prog="python -m common.predict", description="Landmarks of photographs and videos.", allow_abbrev=False
    )
    result.add_argument("pictures", type=Path, nargs="*", help="pictures, folders, patterns such as '*.jpg', videos")
    result.add_argument("--list", type=Path, help="text file that names a picture on each line")
    result.add_argument("--camera", type=int, help="number of a camera; Ctrl-C ends it")
    result.add_argument("--frames", type=int, help="stop a video or camera after so many frames")
    result.add_argument("--weights", type=Path, help=".safetensors, .ckpt or .onnx; default: the embedded weights")
    result.add_argument("--method", help="use this method's embedded weights")
    result.add_argument("--config", type=Path, help="config.yaml of the run that made the weights, if they need it")
    result.add_argument("--box", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"), help="face of one picture")
    result.add_argument("--detector", help="model file for OpenCV's FaceDetectorYN, or dlib; default: YuNet, then dlib")
    result.add_argument("--score", type=float, default=SCORE, help="lowest score of a detection, 0..1")
    result.add_argument("--min-face", type=float, help="smallest face that is looked for, pixels")
    result.add_argument("--faces", type=int, help="at most so many faces a picture, surest first")
    result.add_argument("--upright", action="store_true", help="do not look for turned faces (faster)")
    result.add_argument("--every", type=int, default=10, help="video: frames between two looks of the detector")
    result.add_argument("--smooth", action="store_true", help="video: smooth points in time (1-euro filter)")
    result.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write to")
    result.add_argument("--format", choices=FORMATS, default="json", help="kind of file; default json")
    result.add_argument("--overwrite", action="store_true", help="begin the file of predictions anew")
    result.add_argument("--crops", type=int, choices=(112, 256), help="also write faces aligned by eyes and mouth")
    result.add_argument("--device", default="auto", help="cpu, cuda, ...; default auto: CUDA where there is one")
    result.add_argument("--backend", choices=BACKENDS, help="what runs the network; default auto: what is fastest")
    result.add_argument("--precision", choices=PRECISIONS, default="float32", help="bf16 is faster where there is one")
    result.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="a setting of the method, such as decode=argmax or policy=FILE")  # fmt: skip
    result.add_argument("--no-pictures", action="store_true", help="draw nothing")
    return result


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    from common.prediction.job import report, run  # here: what they import must know already that nothing is trained

    options = parser().parse_args(arguments)
    try:
        return run(options)
    except KeyboardInterrupt:
        report(f"stopped; what was predicted so far is in {options.out}, the same command goes on")
        return STOPPED
    except BrokenPipeError:
        sys.stderr.close()  # nobody listens; what was predicted is in the file
        return STOPPED


if __name__ == "__main__":
    only_predict()
    sys.exit(main())
