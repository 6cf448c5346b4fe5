"""Worker of `benchmarks.studies.peers`: MediaPipe's face mesh, run by the Python of an environment that has it.

That library needs an older NumPy than this project, so that this file imports nothing of the project. Pictures come
and replies go through the pipe: height, width (2 x uint32) and RGB bytes; seconds of the processor (float64) and
x, y, z of the refined mesh's points (float32, pixels; NaN where no face is found).
"""

from __future__ import annotations

import importlib
import struct
import sys
import time

import numpy as np

POINTS = 478  # of the refined mesh


def main() -> None:
    """Reply to pictures until there are no more."""
    solutions = importlib.import_module("mediapipe").solutions.face_mesh
    source, target = sys.stdin.buffer, sys.stdout.buffer
    with solutions.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True) as mesh:
        while len(head := source.read(8)) == 8:
            height, width = struct.unpack("<II", head)
            image = np.frombuffer(source.read(height * width * 3), np.uint8).reshape(height, width, 3)
            start = time.process_time()
            faces = mesh.process(image).multi_face_landmarks
            seconds = time.process_time() - start
            points = np.full((POINTS, 3), np.nan, np.float32)
            if faces:
                shares = np.array([(point.x, point.y, point.z) for point in faces[0].landmark])
                points[:] = shares * [width, height, width] - [0.5, 0.5, 0]
            target.write(struct.pack("<d", seconds) + points.tobytes())
            target.flush()


if __name__ == "__main__":
    main()
