"""Settings of the KV cache service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cache_service.policies.choice import PolicyName
from services.runtime.settings import ProcessSettings
from services.runtime.shared_memory import CacheTransport
from services.wire.cache import MAX_BLOCK_BYTES


class CacheSettings(ProcessSettings):
    """Beside the common ones."""

    capacity_bytes: int = Field(default=1 << 30, ge=1)
    """Most bytes of blocks held. 1 GiB leaves room beside a worker on a small machine."""

    max_blocks: int = Field(default=1_000_000, ge=1)
    """Most blocks held; bounds the bookkeeping, about 1 KiB per block."""

    cache_transport: CacheTransport = CacheTransport.AUTO
    """Whether workers of this host read blocks from shared memory: auto (if /dev/shm has room for
    capacity_bytes), shm (else the service does not start) or grpc (never)."""

    policy: PolicyName = PolicyName.HYBRID
    """Which block goes first when room is needed: lru, lfu, ttl or hybrid, which hears several
    by their hits of late. May be changed while the service runs (`tokenmill cache policy`)."""

    ttl_s: float = Field(default=86_400.0, gt=0)
    """Blocks unused for so long go at the next sweep, seconds. A chat session lives as long."""

    sweep_interval_s: float = Field(default=60.0, gt=0)
    """How often expired blocks are looked for, seconds."""

    lfu_half_life_s: float = Field(default=900.0, gt=0)
    """A use counts half after so long, in lfu; hybrid weighs that and a third of it, seconds."""

    disk_path: Path | None = None
    """File for blocks that shall outlive this process; unset: none is kept. Shards that share a
    directory may be given the same: who finds it taken uses one called after it."""

    disk_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """Size of that file, bytes; all of it is claimed at the start. A file of another size is begun
    anew."""

    disk_policy: PolicyName = PolicyName.LRU
    """Which block goes first from the file."""

    disk_queue_bytes: int = Field(default=128 << 20, ge=0)
    """Blocks that may wait to be written, bytes; what comes beyond is not written until it is
    evicted from memory."""

    tenant_bytes: int | None = Field(default=None, ge=1)
    """Most bytes of one tenant; unset: what others leave. Who holds most makes room."""

    lease_ms: int = Field(default=5_000, ge=0)
    """How long blocks that a lookup found are not evicted, ms. Covers the fetch that follows."""

    max_hashes: int = Field(default=8_192, ge=1)
    """Most hashes in one Lookup or Get: 128k tokens in blocks of 16."""

    max_block_bytes: int = Field(default=32 << 20, ge=1, le=MAX_BLOCK_BYTES)
    """Largest block taken. A 70B model's block of 16 tokens has 5 MiB."""

    max_concurrent_puts: int = Field(default=16, ge=1)
    """Put streams at once; each may hold one unfinished block beside the capacity."""

    max_concurrent_rpcs: int = Field(default=256, ge=1)
    """Calls at once, health checks included; more are refused."""

    put_idle_timeout_s: float = Field(default=10.0, gt=0)
    """A Put stream that is silent for longer loses its place, seconds."""
