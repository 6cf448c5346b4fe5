"""Figures of sdu3d's README."""
