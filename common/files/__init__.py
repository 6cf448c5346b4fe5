"""Files that are read with care: pictures, checkpoints, weights of other implementations."""
