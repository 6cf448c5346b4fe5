"""Data sets, crops, augmentation and the data module."""
