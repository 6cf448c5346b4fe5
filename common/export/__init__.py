"""Networks made ready for inference: folded, exported, quantised."""
