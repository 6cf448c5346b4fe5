"""The early exit: the policy that prediction reads, the choice of its thresholds, and the records they are chosen on.

Thresholds are chosen on validation faces by `python -m musica.choose_exit`.
"""

from musica.exit.policy import ExitPolicy, read_policy
from musica.exit.thresholds import (
    Sweep,
    best_saving,
    choose,
    exit_iteration,
    failure_threshold,
    sweep,
    usual_levels,
)

__all__ = [
    "ExitPolicy",
    "Sweep",
    "best_saving",
    "choose",
    "exit_iteration",
    "failure_threshold",
    "read_policy",
    "sweep",
    "usual_levels",
]
