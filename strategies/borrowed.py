"""Arrays without reference counting, for the inside of the fused kernel.

numba counts references to an array at every call that takes one, with atomic instructions; in the
kernel they cost more than the indicators. A borrowed array has no owner, so nothing is counted;
whoever calls the kernel keeps the arrays alive, which the kernel's own object does.
"""

from typing import Any

import numpy.typing as npt
from numba.core import cgutils
from numba.extending import intrinsic, overload


def borrowed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same array; compiled, one that is not reference-counted."""
    return array


@intrinsic
def _borrow(_context, array):
    def lower(context, builder, _signature, args):
        view = context.make_array(array)(context, builder, value=args[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()  # noqa: SLF001 - how numba's proxies give their value

    return array(array), lower


@overload(borrowed)
def _borrowed(array):
    def compiled(array):
        return _borrow(array)  # type: ignore[call-arg]  # numba supplies the context

    return compiled
