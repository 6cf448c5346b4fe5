"""Helper threads for compiled loops, which leave the interpreter's lock to others while they work."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TypeVar

Result = TypeVar("Result")


class Helpers:
    """Threads that wait for work beside the calling one.

    Args:
        count: at least 1.
    """

    def __init__(self, count: int) -> None:
        self._ids: list[int] = []
        self._pool = ThreadPoolExecutor(count, "musica", lambda: self._ids.append(threading.get_native_id()))

    def start(self, calls: list[Callable[[], Result]]) -> list[Future[Result]]:
        """Begin calls, each in a thread of its own; the caller waits for their results."""
        self._keep_off_this_core()
        return [self._pool.submit(call) for call in calls]

    def _keep_off_this_core(self) -> None:
        """Let the helpers run on every core but the caller's.

        In a virtual machine a core that has been idle for some time looks taken (its host has put it aside), so the
        system would wake a helper on the caller's core, where it waits some milliseconds for the caller to be done.
        """
        if _current_core is None:
            return
        allowed = os.sched_getaffinity(0)
        others = allowed - {_current_core()}
        for helper in self._ids:
            os.sched_setaffinity(helper, others or allowed)


def _find_current_core() -> Callable[[], int] | None:
    if not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


_current_core = _find_current_core()


@lru_cache
def helpers(count: int) -> Helpers:
    """Return so many threads; the same ones every time."""
    return Helpers(count)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=helpers.cache_clear)  # a forked process has the pool, but not its threads


def side_by_side(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call work(begin, end) for shares of range(count), one share in this thread and the others in helpers."""
    threads = max(1, min(threads, count))
    bounds = [count * share // threads for share in range(threads + 1)]
    together([partial(work, bounds[k], bounds[k + 1]) for k in range(threads)])


def together(calls: list[Callable[[], Result]]) -> Result:
    """Run calls at the same time, the first in this thread; return its result when all have ended."""
    others = helpers(len(calls) - 1).start(calls[1:]) if len(calls) > 1 else []
    try:
        return calls[0]()
    finally:  # they write into memory that is freed after this
        for other in others:
            other.result()
