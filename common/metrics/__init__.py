"""Landmark and head-pose metrics and the evaluation protocols."""
