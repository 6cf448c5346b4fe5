"""Work shared with helper threads."""

from __future__ import annotations

import os
import threading

import pytest

from musica.native import threads
from musica.native.threads import side_by_side, together


def test_every_share_is_done_once() -> None:
    for count, wanted in ((10, 3), (2, 4), (1, 1), (7, 2)):
        done: list[int] = []

        def work(begin: int, end: int, done: list[int] = done) -> None:
            done.extend(range(begin, end))

        side_by_side(work, count, wanted)
        assert sorted(done) == list(range(count))


def test_calls_run_at_the_same_time_and_the_first_one_s_result_comes_back() -> None:
    meeting = threading.Barrier(3, timeout=60)
    found: set[int] = set()

    def meet() -> int:
        found.add(threading.get_ident())
        return meeting.wait()

    assert together([meet] * 3) in (0, 1, 2)
    assert len(found) == 3 and threading.get_ident() in found
    assert together([lambda: "alone"]) == "alone"


def test_a_helper_s_error_reaches_the_caller() -> None:
    def fail() -> None:
        raise ValueError("of a helper")

    with pytest.raises(ValueError, match="of a helper"):
        together([lambda: None, fail])


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system tells no thread where to run")
def test_helpers_keep_off_the_caller_s_core(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.sched_getaffinity(0)
    together([lambda: None, lambda: None])  # the helper's number is known once it has begun
    cores: list[set[int]] = []
    for core in sorted(allowed):
        monkeypatch.setattr(threads, "_current_core", lambda core=core: core)
        together([lambda: None, lambda: cores.append(os.sched_getaffinity(0))])
        assert cores.pop() == (allowed - {core} or allowed)
    monkeypatch.setattr(threads, "_current_core", None)  # a system without the call
    together([lambda: None, lambda: cores.append(set())])
    assert cores == [set()]
