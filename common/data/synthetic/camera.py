"""What a camera and a file do to a picture: exposure, colour cast, blur, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np

from common.data.synthetic.appearance import Look
from common.data.synthetic.texture_maps import GRAIN_SIDE, detail

BLUR_FLOOR = 0.3  # sigma in pixels at 256 pixels a side; hardly any picture is sharper


def finish(rng: np.random.Generator, image: np.ndarray, look: Look) -> np.ndarray:
    """Return the picture (size, size, 3) uint8 as the camera stores it.

    Everything works on 8-bit numbers with rounded tables, so that it is the same on every machine.
    """
    size = image.shape[0]
    level = np.arange(256) / 255.0
    tables = [np.clip(0.5 + (np.clip(level * look.gain * c, 0, 1.15) - 0.5) * look.contrast, 0, 1) for c in look.cast]
    table = np.round(np.stack(tables, axis=1) * 255).astype(np.uint8)[None]
    image = cv2.LUT(image, table)
    sigma = max(look.blur, BLUR_FLOOR) * size / 256
    image = cv2.GaussianBlur(image, (0, 0), sigma)
    if look.noise:
        image = _noisy(rng, image, look.noise)
    if look.gray:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        image = cv2.merge([grey, grey, grey])
    if look.jpeg:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))  # coded as if it were BGR, so decoded likewise
    if rng.uniform() < 0.1:  # photographs end: crops near their edge are black beyond it
        cut = int(rng.integers(2, max(size // 8, 3)))
        side = int(rng.integers(4))
        turned = np.rot90(image, side)
        turned[:cut] = 0
    return np.ascontiguousarray(image)


def _noisy(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """Return the picture with grain, mostly the same in all channels."""
    size = image.shape[0]
    grain = detail().fine
    if size > GRAIN_SIDE // 2:
        grain = np.tile(grain, (size // GRAIN_SIDE + 2,) * 2)
    row, column = rng.integers(0, GRAIN_SIDE // 2, 2)
    window = cv2.convertScaleAbs(grain[row : row + size, column : column + size], alpha=strength, beta=128)
    return cv2.addWeighted(image, 1.0, cv2.merge([window] * 3), 1.0, -128.0)
