"""The page: uploads within limits, one method beside another, nothing kept, nothing asked for outside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.data.synthetic import SyntheticFaces
from common.demo import __main__ as demo
from common.demo.page import discard, results
from common.demo.results import MOST_PIXELS, Methods, read_upload
from common.errors import LabError
from common.prediction.detection import Detections, FaceFinder
from tests.benchmarks.report.test_browser import driver


class Known:
    """Finds the drawn face of every picture at its box."""

    name = "yunet"

    def __init__(self, box: np.ndarray) -> None:
        self.box = box

    def detect(self, image: np.ndarray) -> Detections:
        return Detections.of(self.box[None] * image.shape[0] / 256, np.array([0.95]))


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, np.ndarray]:
    sample = SyntheticFaces(1, seed=4)[0]
    x0, y0, x1, y1 = sample.box
    return sample.image, np.array([x0, y0 - 0.35 * (y1 - y0), x1, y1])  # forehead to chin, as YuNet's boxes are


def test_methods_answer_side_by_side(face: tuple[np.ndarray, np.ndarray]) -> None:
    image, box = face
    methods = Methods(FaceFinder(Known(box), turned=False))
    assert {"awing", "dpr"} <= set(methods.names())
    result = methods.predict("awing", image)
    assert result.picture.shape == image.shape and (result.picture != image).any()
    assert len(result.rows) == 1 and "1 face" in result.line and result.rows[0][5] == "0.95"
    page = results(methods, ["awing", "dpr"], image)
    assert page.count("data:image/jpeg;base64,") == 2 and page.count("<tr>") == 4
    assert "Choose one or 2" in results(methods, [], image)
    refused = results(methods, ["<b>nothing"], image)
    assert "has no embedded weights" in refused and "<b>" not in refused


def test_uploads_have_limits_in_bytes_and_pixels(tmp_path: Path) -> None:
    upload = tmp_path / "large.png"
    side = int(MOST_PIXELS**0.5) + 8
    upload.write_bytes(cv2.imencode(".png", np.zeros((side, side), np.uint8))[1].tobytes())
    with pytest.raises(LabError, match="megapixels"):
        read_upload(upload, 10**7)
    with pytest.raises(LabError, match="MB; at most"):
        read_upload(upload, 100)
    upload.write_bytes(b"no picture")
    with pytest.raises(LabError, match="no image"):
        read_upload(upload, 10**7)


def test_an_upload_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    inside, outside = tmp_path / "served" / "hash" / "a.png", tmp_path / "mine" / "b.png"
    for path in (inside, outside):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    (outside.parent / "other").write_bytes(b"x")
    for path in (inside, outside):
        discard(path, tmp_path / "served")
    assert not inside.parent.exists() and (tmp_path / "served").is_dir()
    assert not outside.exists() and (outside.parent / "other").exists()


@pytest.mark.slow
def test_the_page_in_a_browser(
    face: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drawn face is dropped, a second method chosen; the browser asks this machine alone, and no file is left."""
    pytest.importorskip("gradio")
    from selenium.webdriver.support.ui import WebDriverWait

    image, box = face
    picture = tmp_path / "face.png"
    picture.write_bytes(cv2.imencode(".png", cv2.resize(image, (512, 512))[..., ::-1])[1].tobytes())
    monkeypatch.setattr(demo, "open_detector", lambda choice, score: Known(box))
    browser = driver()
    try:
        with demo.serving(demo.parser().parse_args(["--port", "0"])) as address:
            assert address.startswith("http://127.0.0.1:")
            browser.get(address)
            wait = WebDriverWait(browser, 90)
            wait.until(lambda page: page.find_elements("css selector", "#picture input[type=file]"))[0].send_keys(
                str(picture)
            )
            wait.until(lambda page: len(page.find_elements("css selector", "#results img")) == 1)
            browser.find_elements("css selector", "#methods input")[1].click()
            wait.until(lambda page: len(page.find_elements("css selector", "#results img")) == 2)
            text = browser.find_element("css selector", "#results").text
            assert "expected error" in text and "1 face" in text and "0.95" in text
            if "DEMO_SCREENSHOT" in os.environ:
                browser.save_screenshot(os.environ["DEMO_SCREENSHOT"])
            kept = [path for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if path.is_file()]
            assert not kept, "the upload was deleted once it was read"
            events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
            sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
            asked = [event["request"]["url"] for event in sent]
            assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked
        assert not Path(os.environ["GRADIO_TEMP_DIR"]).exists()
    finally:
        browser.quit()
