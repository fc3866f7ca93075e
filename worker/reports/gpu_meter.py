"""Utilisation and memory of NVIDIA GPUs, asked of the driver's own library; no dependency."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One GPU now.

    Attributes:
        utilisation: share of the driver's last sampling period in which a kernel ran, 0 to 1.
        memory_used_bytes: of all processes.
    """

    utilisation: float
    memory_used_bytes: int
    memory_total_bytes: int


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def open_gpu_meter(library: str = _LIBRARY) -> Callable[[], Sequence[GpuFigures]]:
    """What reads all GPUs of this machine; it reads none where there is no driver.

    Args:
        library: file name of NVML.

    Source: NVML API reference, nvmlInit_v2 and nvmlDeviceGetUtilizationRates.
    """
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return lambda: ()
    count = ctypes.c_uint(0)
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return lambda: ()
    handles: list[ctypes.c_void_p] = []
    for idx in range(count.value):
        handle = ctypes.c_void_p()
        if not nvml.nvmlDeviceGetHandleByIndex_v2(idx, ctypes.byref(handle)):
            handles.append(handle)

    def read() -> Sequence[GpuFigures]:
        return [_read(nvml, handle) for handle in handles]

    return read


def _read(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> GpuFigures:
    # What the driver cannot tell stays 0: a GPU of which a part is lent tells no utilisation.
    utilisation, memory = _Utilisation(), _Memory()
    nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(utilisation))
    nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return GpuFigures(utilisation.gpu / 100, memory.used, memory.total)
