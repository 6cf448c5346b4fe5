"""The page: a picture in, drawn points and a table out, one method beside another.

The browser is given the drawn pictures inside the result, so that no file of them is written. An upload passes through
the server's own temporary folder and is deleted as soon as it is read; the folder goes with the server.
"""

from __future__ import annotations

import base64
import html
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.demo.results import COLUMNS, MOST_PIXELS, Methods, read_upload
from common.errors import LabError

MOST_SHOWN = 1200  # longer side of a picture that the browser is sent, pixels
MOST_SIDE_BY_SIDE = 2
STYLE = """
.lab-pair {display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start}
.lab-one {flex: 1 1 20rem; min-width: 0}
.lab-one img {max-width: 100%; max-height: 70vh; border-radius: 6px}
.lab-one table {border-collapse: collapse; margin: .4rem 0 .8rem; font-size: .92rem}
.lab-one th, .lab-one td {padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top}
.lab-note {opacity: .75}
"""


def shown(image: np.ndarray) -> str:
    """Return a picture (H, W, 3) RGB as an address that holds it whole, shrunk to what a screen shows."""
    height, width = image.shape[:2]
    factor = min(1.0, MOST_SHOWN / max(height, width))
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def section(methods: Methods, name: str, image: np.ndarray) -> str:
    """Return what one method finds in a picture as HTML."""
    result = methods.predict(name, image)
    cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in result.rows]
    head = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
    rows = "".join(f"<tr>{row}</tr>" for row in cells)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if result.rows else ""
    picture = f'<img alt="points of {html.escape(name)}" src="{shown(result.picture)}">'
    line = f"<p>{html.escape(result.line)}</p>"
    return f'<div class="lab-one" data-method="{html.escape(name)}">{line}{table}{picture}</div>'


def results(methods: Methods, names: list[str], image: np.ndarray | None) -> str:
    """Return the results of one or two methods as HTML, or what is to be done."""
    if image is None:
        return '<p class="lab-note">Drop a picture, or take one from the camera.</p>'
    if not 1 <= len(names) <= MOST_SIDE_BY_SIDE:
        return f'<p class="lab-note">Choose one or {MOST_SIDE_BY_SIDE} methods.</p>'
    try:
        parts = [section(methods, name, image) for name in names]
    except LabError as error:
        return f'<p class="lab-note">{html.escape(str(error))}</p>'
    return f'<div class="lab-pair">{"".join(parts)}</div>'


def discard(path: Path, folder: Path) -> None:
    """Delete an upload with the folder that it alone lies in, if it is below the server's temporary folder."""
    path.unlink(missing_ok=True)
    if path.parent != folder and folder in path.parents:
        shutil.rmtree(path.parent, ignore_errors=True)


def build_page(methods: Methods, folder: Path, most_bytes: int) -> Any:
    """Return the page as Gradio's Blocks.

    Args:
        methods: the predictors that the page offers.
        folder: the server's temporary folder.
        most_bytes: of an uploaded picture.

    Raises:
        LabError: Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError:
        raise LabError("the page needs an optional dependency: pip install 'face-alignment-lab[demo]'") from None
    names = methods.names()

    def take(upload: str | None, chosen: list[str], kept: np.ndarray | None) -> tuple[None, np.ndarray | None, str]:
        if upload is None:
            return None, kept, results(methods, chosen, kept)
        try:
            image = read_upload(Path(upload), most_bytes)
        except LabError as error:
            return None, None, f'<p class="lab-note">{html.escape(str(error))}</p>'
        finally:
            discard(Path(upload), folder)
        return None, image, results(methods, chosen, image)

    with gr.Blocks(title="Face landmarks", analytics_enabled=False) as page:
        gr.Markdown("# Face landmarks\nDrop a picture or take one from the camera. It stays on the machine that serves "
                    "this page, and is not kept.")  # fmt: skip
        with gr.Row():
            picture = gr.Image(
                label=f"Picture, up to {most_bytes / 1e6:.0f} MB and {MOST_PIXELS / 1e6:.0f} megapixels",
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                height=240,
                elem_id="picture",
            )
            chosen = gr.CheckboxGroup(
                names, value=names[:1], label="Methods, one or two side by side", elem_id="methods", min_width=200
            )
        kept = gr.State(None, time_to_live=3600)  # the last picture of this visitor, in memory
        out = gr.HTML(results(methods, names[:1], None), elem_id="results")
        picture.input(take, [picture, chosen, kept], [picture, kept, out], api_visibility="private")
        chosen.input(
            lambda wanted, image: results(methods, wanted, image), [chosen, kept], out, api_visibility="private"
        )
    return page
