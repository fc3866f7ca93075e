"""Numbers on their way to the device: pinned memory, one copy per step."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class _Host:
    """One of two host buffers; busy until the device has read it."""

    def __init__(self, capacity: int, *, is_pinned: bool) -> None:
        self.buffer = torch.zeros(capacity, dtype=torch.int32, pin_memory=is_pinned)
        self.numbers = self.buffer.numpy()
        self.copied = torch.cuda.Event() if is_pinned else None

    def wait(self) -> None:
        if self.copied is not None:
            self.copied.synchronize()


class Staging:
    """int32 values laid one behind the other on the host, copied to the device together.

    There are two host buffers, so that the next step can be laid out while this one is copied. The
    device has one, at a fixed address: a captured graph reads it.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        is_cuda = device.type == "cuda"
        self._hosts = [_Host(capacity, is_pinned=is_cuda) for _ in range(2)]
        self._device = torch.zeros(capacity, dtype=torch.int32, device=device)
        self._used = 0

    def clear(self) -> None:
        """Begins a new step, in the host buffer that was sent longest ago."""
        self._hosts.reverse()
        self._hosts[0].wait()
        self._used = 0

    def add(self, values: Sequence[int]) -> torch.Tensor:
        """Lays values down; returns where they will be on the device: (len(values),) int32.

        Raises:
            ValueError: the buffer is full.
        """
        first, end = self._used, self._used + len(values)
        numbers = self._hosts[0].numbers
        if end > len(numbers):
            raise ValueError(f"a step has {end} numbers; limit {len(numbers)}")
        numbers[first:end] = values
        self._used = end
        return self._device[first:end]

    def add_table(self, tables: Sequence[Sequence[int]], width: int, fill: int) -> torch.Tensor:
        """Lays block tables down as a rectangle: (len(tables), width) int32."""
        flat: list[int] = []
        for table in tables:
            flat.extend(table)
            flat.extend([fill] * (width - len(table)))
        return self.add(flat).view(len(tables), width)

    def overwrite(self, values: Sequence[int]) -> None:
        """Replaces the first values that were laid down."""
        self._hosts[0].numbers[: len(values)] = values

    def send(self) -> None:
        """Starts the copy of all that was laid down."""
        host = self._hosts[0]
        self._device[: self._used].copy_(host.buffer[: self._used], non_blocking=True)
        if host.copied is not None:
            host.copied.record()
