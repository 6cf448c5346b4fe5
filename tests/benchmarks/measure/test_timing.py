"""The timer and the counters of all speed figures."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from benchmarks.measure.timing import count_macs, count_parameters, median_ms


def test_calls_take_turns_and_one_slow_pass_does_not_count() -> None:
    seen: list[str] = []

    def slow() -> None:
        seen.append("slow")
        time.sleep(0.2 if len(seen) == 1 else 0.004)

    times = median_ms({"slow": slow, "quick": lambda: seen.append("quick")}, rounds=3, seconds=0.01)
    turns = [name for name, before in zip(seen, ["", *seen], strict=False) if name != before]
    assert turns == ["slow", "quick"] * 3
    assert 4 <= times["slow"] < 40 and 0 < times["quick"] < 0.5


def test_what_goes_before_a_pass_is_not_timed() -> None:
    seen: list[str] = []

    def before() -> None:
        seen.append("before")
        time.sleep(0.01)

    times = median_ms({"call": lambda: seen.append("call")}, rounds=3, before={"call": before})
    assert times["call"] < 5 and seen.count("before") >= 3 and seen[0] == "before"


def test_counters() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    assert count_parameters(net) == 3 * 4 * 9 + 8 + 34
    assert count_macs(net.eval(), torch.zeros(1, 3, 4, 4)) == pytest.approx(4 * 27 * 4 + 32)
