"""What a face shows besides its shape: colours, hair, light, accessories, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SKIN = np.array([(226, 190, 170), (216, 174, 150), (204, 156, 126), (190, 138, 104), (150, 102, 74), (108, 72, 52),
                 (76, 50, 38)], float)  # fmt: skip
HAIR = np.array([(22, 18, 17), (36, 27, 22), (58, 40, 29), (92, 64, 42), (138, 102, 64), (190, 154, 100),
                 (112, 56, 32), (150, 147, 144), (205, 200, 192)], float)  # fmt: skip
HAIR_SHARE = (0.24, 0.18, 0.18, 0.12, 0.09, 0.07, 0.04, 0.05, 0.03)
IRIS = np.array([(60, 36, 22), (84, 54, 30), (104, 88, 52), (92, 112, 120), (74, 98, 122), (40, 26, 20)], float)


@dataclass(frozen=True)
class Look:
    """Colours are RGB, 0 to 255; lengths are units of the head."""

    skin: np.ndarray
    flush: float
    blotch: float
    age: float
    lips: np.ndarray
    iris: np.ndarray
    hair: np.ndarray
    hairline: float
    recede: float
    parting: float
    sides: float
    curtain: float
    length: float
    volume: float
    wave: float
    hat: np.ndarray | None
    brow: float
    stubble: float
    moustache: float
    beard: float
    makeup: float
    glasses: str
    frame: np.ndarray
    lens: tuple[float, float, float]
    cloth: np.ndarray
    light: np.ndarray
    key: np.ndarray
    ambient: np.ndarray
    rim: float
    shine: float
    harsh: bool
    occluder: bool
    shifts: tuple[int, int]
    blur: float
    noise: float
    jpeg: int
    gray: bool
    gain: float
    contrast: float
    cast: np.ndarray
    distance: float

    @property
    def scalp(self) -> np.ndarray:
        """Colour of what covers the crown."""
        return self.hair if self.hat is None else self.hat


def _mixed(rng: np.random.Generator, table: np.ndarray) -> np.ndarray:
    place = rng.uniform(0, len(table) - 1.001)
    low = int(place)
    return np.asarray(table[low] + (table[low + 1] - table[low]) * (place - low))


def _draw_skin(rng: np.random.Generator) -> dict[str, object]:
    skin = np.clip(_mixed(rng, SKIN) * (1 + rng.normal(size=3) * [0.03, 0.03, 0.045]), 25, 250)
    makeup = float(rng.uniform(0.4, 1)) if rng.uniform() < 0.22 else 0.0
    natural = skin * [0.90, 0.63, 0.62] * rng.uniform(0.85, 1.05)
    painted = rng.uniform((120, 20, 30), (215, 90, 100))
    return {
        "skin": skin, "flush": float(rng.uniform(0.2, 1.3)), "blotch": float(rng.uniform(0.4, 1.6)),
        "age": float(rng.uniform(0, 1) ** 1.7), "lips": natural + (painted - natural) * 0.75 * makeup,
        "iris": IRIS[rng.integers(len(IRIS))] * rng.uniform(0.75, 1.3), "makeup": makeup,
    }  # fmt: skip


def _draw_hair(rng: np.random.Generator) -> dict[str, object]:
    hair = np.clip(HAIR[rng.choice(len(HAIR), p=HAIR_SHARE)] * rng.uniform(0.75, 1.25) + rng.normal(size=3) * 4, 6, 240)
    long, bangs, bald = rng.uniform() < 0.42, rng.uniform() < 0.2, rng.uniform() < 0.07
    hat = rng.uniform(15, 215) * (1 + rng.normal(size=3) * 0.25) if rng.uniform() < 0.1 else None
    beardy = not long and rng.uniform() < 0.38
    full = beardy and rng.uniform() < 0.45
    return {
        "hair": hair, "hairline": rng.uniform(-0.44, -0.25) if bangs else -2.0 if bald else rng.uniform(-0.88, -0.55),
        "recede": float(rng.uniform(0.15, 1.1)), "parting": float(rng.normal() * (0.3 if bangs or long else 0.08)),
        "sides": float(rng.uniform(0.15, 0.45)), "curtain": float(rng.uniform(0.56, 0.95)) if long else 2.0,
        "length": float(rng.uniform(0.7, 2.4)) if long else 0.0, "wave": float(rng.uniform(0, 1)),
        "volume": float(rng.uniform(0.0, 0.03) if bald else rng.uniform(0.03, 0.12) + 0.1 * (rng.uniform() < 0.15)),
        "hat": None if hat is None else np.clip(hat, 8, 235), "brow": float(rng.uniform(0.4, 1.0)),
        "stubble": float(rng.uniform(0.1, 0.5)) if beardy else 0.0,
        "moustache": float(rng.uniform(0.3, 0.9)) if full or (beardy and rng.uniform() < 0.25) else 0.0,
        "beard": float(rng.uniform(0.35, 0.95)) if full else 0.0,
    }  # fmt: skip


def _draw_light(rng: np.random.Generator) -> dict[str, object]:
    harsh = bool(rng.uniform() < 0.2)
    light = rng.normal(size=3) * [1.1 if harsh else 0.55, 0.4, 0] + [0, -0.45, 1]
    ambient = rng.uniform(0.25, 0.45) if harsh else rng.uniform(0.42, 0.78)
    warm = rng.normal() * 0.09
    tint = np.array([1 + warm, 1.0, 1 - warm])
    total = rng.uniform(0.92, 1.3)
    return {
        "light": light / np.sqrt((light**2).sum()), "ambient": ambient * (2 - tint), "key": (total - ambient) * tint,
        "rim": float(rng.uniform(0, 0.35)), "shine": float(rng.uniform(4, 46)), "harsh": harsh,
    }  # fmt: skip


def _draw_camera(rng: np.random.Generator) -> dict[str, object]:
    blurred = rng.uniform() < 0.16
    return {
        "blur": float(rng.uniform(1.2, 2.6) if blurred else rng.uniform(0.0, 0.9)),
        "noise": float(rng.uniform(0.5, 5.5) if rng.uniform() < 0.35 else 0), "gray": bool(rng.uniform() < 0.08),
        "jpeg": int(rng.integers(35, 95)) if rng.uniform() < 0.35 else 0, "gain": float(np.exp(rng.normal() * 0.16)),
        "contrast": float(rng.uniform(0.78, 1.3)), "cast": 1 + np.clip(rng.normal(size=3) * 0.06, -0.2, 0.2),
        "distance": float(1 / rng.uniform(0.06, 0.2)),
    }  # fmt: skip


def draw_look(rng: np.random.Generator) -> Look:
    """Draw skin, hair, light, accessories and camera."""
    kind = rng.uniform()
    glasses = "none" if kind > 0.2 else "dark" if kind > 0.15 else "thin" if kind > 0.07 else "thick"
    dark = rng.uniform() < 0.7
    frame = rng.uniform(5, 60) * np.ones(3) if dark else rng.uniform((70, 50, 40), (190, 170, 160))
    values: dict[str, object] = {}
    for draw in (_draw_skin, _draw_hair, _draw_light, _draw_camera):
        values |= draw(rng)
    return Look(
        **values, glasses=glasses, frame=frame,  # type: ignore[arg-type]
        lens=(float(rng.uniform(0.18, 0.26)), float(rng.uniform(0.11, 0.2)), float(rng.uniform(0.4, 1.0))),
        cloth=rng.uniform(12, 225) * np.clip(1 + rng.normal(size=3) * 0.25, 0.3, 1.6),
        occluder=bool(rng.uniform() < 0.16), shifts=(int(rng.integers(4096)), int(rng.integers(4096))),
    )  # fmt: skip
