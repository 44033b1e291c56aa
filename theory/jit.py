"""How kernels are compiled.

Numba's cache on disk is keyed by the FILE of the function: a kernel calls jitted helpers of its own file only, imports no
constant of another kernel, and takes everything else (generator, law, gradient) as a function argument.
"""

from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(signature: Any) -> Callable[[Callable], Any]:
    """Compile at once and cache on disk; compile anew in each process where no folder can be written."""

    def compiled(function: Callable) -> Any:
        try:
            return njit(signature, cache=True, nogil=True, error_model="numpy")(function)
        except RuntimeError:
            return njit(signature, nogil=True, error_model="numpy")(function)

    return compiled
