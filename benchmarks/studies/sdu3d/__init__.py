"""Figures of docs/studies/sdu3d.md."""
