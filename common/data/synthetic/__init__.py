"""Faces drawn by the project's own parametric head."""
