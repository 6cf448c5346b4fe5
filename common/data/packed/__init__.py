"""Prepared stores: faces packed once with room for augmentation, read in any order from a folder or object store."""
