"""Loops compiled to machine code, where the optional package numba is installed (extra `fast`).

For what tensors do badly on a CPU: many small pieces of memory. Whoever uses `compiled` keeps a way through tensors for
other devices and for installations without the package, and asks `available` which one to take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

try:
    from numba import njit
except ImportError:
    available = False

    def compiled(function: Function) -> Function:
        """Return the function as it is."""
        return function

    compiled_sums = compiled
else:
    available = True

    def compiled(function: Function) -> Function:
        """Compile at the first call; the machine code is kept beside the file for the next process.

        Other threads run meanwhile, and a division by zero gives infinity as in NumPy.
        """
        made = njit(cache=True, nogil=True, error_model="numpy")(function)
        return cast(Function, made)

    def compiled_sums(function: Function) -> Function:
        """As `compiled`, for sums whose order does not matter: several of their terms are added at once."""
        loose = {"reassoc", "contract", "nsz"}
        made = njit(cache=True, nogil=True, error_model="numpy", fastmath=loose)(function)
        return cast(Function, made)
