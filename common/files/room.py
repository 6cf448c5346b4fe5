"""A network is made from the settings in a file of weights: a file that lies must not be able to take all memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from common.errors import LabError

SPARE = 1 << 27  # numbers; more than any method's grids, masks and intermediate results
TIMES = 40  # numbers that may be made for each of the file: initial values are drawn in several steps
CALLS, CALLS_EACH = 1000, 5  # operations that may make tensors, and so many more for each of the file's
# What constructors raise of values that make no sense, besides what a user is meant to read.
NONSENSE = (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError, AttributeError,
            AssertionError)  # fmt: skip


class _Counted(TorchDispatchMode):
    """Adds up the numbers of what operations make, before they make it where their arguments give its size.

    Args:
        most: numbers.
        calls: operations.
    """

    def __init__(self, most: int, calls: int) -> None:
        super().__init__()
        self.left, self.calls = most, calls

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so to the compiler takes its import, seconds

    def __torch_dispatch__(
        self, func: Callable[..., object], types: Sequence[type], args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:  # fmt: skip
        sizes = args[0] if args else None
        if isinstance(sizes, list | tuple) and sizes and all(isinstance(side, int) for side in sizes):
            self._take(math.prod(sizes))
            return func(*args, **(kwargs or {}))
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not any(made is given for given in args):
            self._take(made.numel())
        return made

    def _take(self, count: int) -> None:
        self.left, self.calls = self.left - count, self.calls - 1
        if self.left < 0 or self.calls < 0:
            raise MemoryError("its settings are of a much larger network than its weights")


@contextmanager
def of_file(state: Mapping[str, Tensor], where: Path | str) -> Iterator[None]:
    """Tell in one line that the settings of a file make no network, or a much larger one than its weights fill.

    Args:
        state: the file's weights.
        where: the file.

    Raises:
        LabError: what is made inside takes more memory than such weights need, or cannot be made.
    """
    numbers = sum(value.numel() for value in state.values())
    try:
        with _Counted(SPARE + TIMES * numbers, CALLS + CALLS_EACH * len(state)):
            yield
    except NONSENSE as error:
        raise LabError(f"{where}: its settings make no network: {' '.join(str(error).split())[:200]}") from error
