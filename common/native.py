"""Loops compiled to machine code, where the optional package numba is installed (extra `fast`).

For what tensors do badly on a CPU: many small pieces of memory. Whoever uses `compiled` keeps a way through tensors for
other devices and for installations without the package, and asks `available` or `usable` which one to take.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

if TYPE_CHECKING:
    from llvmlite.ir import IRBuilder, Value
    from numba.core.base import BaseContext
    from numba.core.typing import Context, Signature

Function = TypeVar("Function", bound=Callable[..., object])

_LOCK = threading.Lock()

try:
    from numba import config, njit, types
    from numba.extending import intrinsic

    available = True
    interpreted = bool(vars(config)["DISABLE_JIT"])  # by NUMBA_DISABLE_JIT: to see which lines tests run
except ImportError:
    available, interpreted = False, True

if interpreted:

    def atomic_add(array: np.ndarray, index: int, value: int) -> int:
        """Add a value to an element of an array (n,), seen by all threads at once; return what it was."""
        with _LOCK:
            before = int(array[index])
            array[index] += value
        return before

    def let_others_run() -> int:
        """Let other threads have the core."""
        time.sleep(0)
        return 0

    def compiled(function: Function) -> Function:
        """Return the function as it is."""
        return function

    compiled_sums = compiled
else:

    @intrinsic
    def atomic_add(
        context: Context, array: types.Type, index: types.Type, value: types.Type
    ) -> tuple[Signature, Callable[..., Value]]:
        """Add a value to an element of an int64 array (n,), seen by all threads at once; return what it was.

        All that a thread wrote before is seen by a thread that sees the sum.
        """

        def generate(context: BaseContext, builder: IRBuilder, signature: Signature, arguments: list[Value]) -> Value:
            view = context.make_array(signature.args[0])(context, builder, arguments[0])
            address = builder.gep(view.data, [arguments[1]])
            return builder.atomic_rmw("add", address, arguments[2], "seq_cst")

        return types.int64(array, types.intp, types.int64), generate

    # The C library's; as an external name, so that compiled code that calls it can be kept in files.
    let_others_run = cast(Any, types.ExternalFunction("sched_yield", types.int32()))

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


def usable(*tensors: Tensor) -> bool:
    """Return whether compiled loops may work on tensors instead of the tensors' own operations.

    Not for gradients, and not while operations are watched, compiled or exported: loops would not be seen.
    """
    watched = (
        torch.is_grad_enabled()
        or is_in_torch_dispatch_mode()
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.onnx.is_in_onnx_export()
    )
    return available and not watched and all(tensor.device.type == "cpu" for tensor in tensors)
