"""From a plan to records: train, test, time."""
