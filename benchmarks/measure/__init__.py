"""Speed and robustness of trained networks."""
