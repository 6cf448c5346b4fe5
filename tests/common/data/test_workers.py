"""Processes that read faces for another one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

OWNER = """
import time
from torch.utils.data import DataLoader
from common.data.base import begin_worker

class Large:
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return bytes(200_000)

loader = iter(DataLoader(Large(), num_workers=2, collate_fn=list, worker_init_fn=begin_worker))
print(*(worker.pid for worker in loader._workers), flush=True)
time.sleep(60)
"""


def test_workers_end_with_an_owner_that_is_killed() -> None:
    """One of them had its queue full and waited for ever, with a gigabyte of memory in a training."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    workers = [int(number) for number in owner.stdout.readline().split()]
    time.sleep(1)  # until the queue is full
    assert len(workers) == 2 and all(map(_runs, workers))
    owner.kill()
    owner.wait()
    until = time.monotonic() + 20
    while any(map(_runs, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    left = [worker for worker in workers if _runs(worker)]
    for worker in left:
        os.kill(worker, 9)
    assert not left


def _runs(number: int) -> bool:
    status = Path(f"/proc/{number}/stat")
    return status.is_file() and status.read_text().rpartition(")")[2].split()[0] != "Z"
