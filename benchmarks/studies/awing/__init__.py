"""Figures of awing's README."""
