"""Faces drawn by the project's own parametric head."""

from common.data.synthetic.dataset import SyntheticFaces

# Raise it with every change of what is drawn or of where its points are: stores of drawn faces are known by it.
VERSION = 1

__all__ = ["VERSION", "SyntheticFaces"]
