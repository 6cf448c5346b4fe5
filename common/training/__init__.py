"""The command line of a training run: options, checks, callbacks, tracking."""
