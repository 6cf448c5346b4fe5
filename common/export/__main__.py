"""A trained method as an ONNX file: `python -m common.export --method NAME | --weights FILE --to onnx`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import LabError, command
from common.export.method import checked_export, checked_part
from common.methods import method_weights
from common.prediction.inference import Predictor


def write(path: Path, content: bytes) -> None:
    """Write a file that has its name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part.{path.name}")
    part.write_bytes(content)
    os.replace(part, path)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(prog="python -m common.export", description=__doc__, allow_abbrev=False)
    source = result.add_mutually_exclusive_group(required=True)
    source.add_argument("--method", help="export this method's embedded weights")
    source.add_argument("--weights", type=Path, help="export these weights: .safetensors or .ckpt")
    result.add_argument("--config", type=Path, help="config.yaml of the run that made the weights, if they need it")
    result.add_argument("--to", choices=("onnx",), default="onnx", help="kind of file")
    result.add_argument("--out", type=Path, help="file to write; default: the weights' name with .onnx, here")
    result.add_argument("--precision", choices=("float32", "int8"), default="float32",
                        help="int8: 8 bits, calibrated on the faces of --calibrate")  # fmt: skip
    result.add_argument("--calibrate", type=Path, metavar="FOLDER", help="prepared crops: train and val, .npz and .zip")
    result.add_argument("--parts", action="store_true", help="also write each iteration of a cascade by itself")
    result.add_argument("--overwrite", action="store_true", help="replace files that exist")
    return result


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    options = parser().parse_args(arguments)
    weights = options.weights or method_weights(options.method)
    if (options.precision == "int8") != (options.calibrate is not None) or (options.calibrate and options.parts):
        raise LabError("--precision int8 and --calibrate FOLDER belong together, without --parts")
    out = options.out or Path(f"{weights.stem}.int8.onnx" if options.calibrate else f"{weights.stem}.onnx")
    predictor = Predictor.load(weights, options.config, backend="eager")
    task, parts = predictor.task, predictor.task.export_parts() if options.parts else {}
    if options.parts and not parts:
        raise LabError(f"--parts: {task.METHOD} is no cascade, it has no parts")
    files = {name: out.with_name(f"{out.stem}.{name}.onnx") for name in parts}
    for path in (out, *files.values()):
        if path.exists() and not options.overwrite:
            raise LabError(f"{path}: exists; give --overwrite to replace it, or another --out")
    content, difference = checked_export(task, predictor.crop, predictor.description())
    if options.calibrate:
        from common.export.quantise import int8_export  # here: the rest does without its packages

        made = int8_export(task, predictor.crop, content, options.calibrate)
        write(out, made.content)
        print(f"{out}: {task.METHOD}, {made}")
        return 0
    write(out, content)
    report(out, task.METHOD, content, difference)
    for name, part in parts.items():
        content, difference = checked_part(name, part)
        write(files[name], content)
        report(files[name], name, content, difference)
    if predictor.official:
        print("official weights: the graph takes crops as common.predict cuts them from other weights' faces, not the "
              "official implementation's")  # fmt: skip
    return 0


def report(path: Path, name: str, content: bytes, difference: float) -> None:
    """Print a line about a written file."""
    print(f"{path}: {name}, {len(content) / 1e6:.1f} MB, points within {difference:.2g} px of the network's")


if __name__ == "__main__":
    sys.exit(main())
