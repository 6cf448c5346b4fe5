"""Figures of spiga's README."""
