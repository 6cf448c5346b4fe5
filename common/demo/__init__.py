"""A page in the browser: `python -m common.demo`."""
