"""A page to try methods on: `python -m common.demo`, then the address that it prints, in a browser on this machine."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.demo.page import STYLE, build_page
from common.demo.results import Methods
from common.errors import LabError, check_range, command
from common.prediction.detection import SCORE, FaceFinder
from common.prediction.detector_file import open_detector

# Before Gradio's import, which reads them: no statistics, no look for a newer version.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
FACES = 20  # at most so many faces a picture


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(prog="python -m common.demo", description=__doc__, allow_abbrev=False)
    result.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 opens it to the network")
    result.add_argument("--port", type=int, default=7860, help="port to listen on; 0 for any free one")
    result.add_argument("--detector", help="model file for OpenCV's FaceDetectorYN, or dlib; default: YuNet, then dlib")
    result.add_argument("--score", type=float, default=SCORE, help="lowest score of a detection, 0..1")
    result.add_argument("--device", default="auto", help="cpu, cuda, ...; default auto: CUDA where there is one")
    result.add_argument("--megabytes", type=int, default=20, help="largest picture that is taken")
    return result


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[str]:
    """Serve the page, and yield its address; what was uploaded goes with it.

    Raises:
        LabError: there is no detector, no method has weights, Gradio is not installed, or the port is taken.
    """
    check_range("--score", options.score, "[0, 1]")
    check_range("--port", options.port, "[0, 65535]")
    check_range("--megabytes", options.megabytes, "[1, 10000]")
    os.environ.update(QUIET)
    methods = Methods(FaceFinder(open_detector(options.detector, options.score), most=FACES), options.device)
    if not methods.names():
        raise LabError("no method has embedded weights; there is nothing to try")
    with tempfile.TemporaryDirectory(prefix="face-alignment-demo-") as name:
        folder = Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        page = build_page(methods, folder, options.megabytes * 10**6)
        try:
            _, address, _ = page.launch(**launch_options(options))
        except OSError as error:
            raise LabError(f"port {options.port} of {options.host} cannot be used ({error}); give --port") from None
        try:
            yield str(address)
        finally:
            page.close(verbose=False)


def launch_options(options: argparse.Namespace) -> dict[str, object]:
    """Return Gradio's settings: nothing from outside, nothing to outside, no look into files."""
    import gradio as gr

    return {
        "server_name": options.host,
        "server_port": options.port or free_port(options.host),
        "max_file_size": options.megabytes * 10**6,
        "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        "css": STYLE,
        "share": False,
        "inbrowser": False,
        "ssr_mode": False,
        "enable_monitoring": False,
        "footer_links": [],
        "prevent_thread_lock": True,
        "quiet": True,
    }


def free_port(host: str) -> int:
    """Return the number of a free port."""
    import socket

    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    import time

    with serving(parser().parse_args(arguments)) as address:
        print(f"{address} (Ctrl-C ends it)", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
