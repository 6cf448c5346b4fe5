"""Faces drawn by the project's own parametric head."""

from common.data.synthetic.dataset import DRAWN, SyntheticFaces, mean_face

# Raise it with every change of what is drawn or of where its points are: stores of drawn faces are known by it.
VERSION = 1

__all__ = ["DRAWN", "VERSION", "SyntheticFaces", "mean_face"]
