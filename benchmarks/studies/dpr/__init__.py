"""Figures of dpr's README."""
