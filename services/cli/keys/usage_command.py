"""`tokenmill usage`: what each key used on each day."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from services.cli import flags
from services.cli.keys.commands import NatsUrl


def usage(
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant.", show_default=False)
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How many days back.")] = 30,
    as_json: flags.AsJson = False,
    nats_url: NatsUrl = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Shows what each key used, per day (UTC); a gateway writes every two seconds."""
    import time

    from services.cli.broker import nats_url_of, with_broker
    from services.runtime.bus import Bus
    from services.runtime.key_value import KeyValueBucket
    from services.wire.subjects import USAGE_BUCKET
    from services.wire.usage import decode_usage, usage_pattern

    async def read(bus: Bus) -> dict[str, bytes]:
        bucket = KeyValueBucket(bus, USAGE_BUCKET, what="the usage store")
        return await bucket.entries(usage_pattern(tenant))

    found = with_broker(nats_url_of(flags.state_dir_of(state_dir), nats_url), read)
    first = time.strftime("%Y-%m-%d", time.gmtime(time.time() - (days - 1) * 86_400))
    uses = [use for use in map(decode_usage, found.values()) if use.day >= first]
    uses.sort(key=lambda use: (use.day, use.tenant, use.key_id))
    if as_json:
        flags.print_json([asdict(use) for use in uses])
        return
    from rich.table import Table

    from services.cli.terminal import out

    table = Table(box=None)
    for heading in ("day", "tenant", "key", "requests", "prompt", "cached", "answer"):
        table.add_column(heading)
    for use in uses:
        table.add_row(
            use.day,
            use.tenant,
            use.key_id or "-",
            str(use.num_requests),
            str(use.prompt_tokens),
            str(use.cached_tokens),
            str(use.completion_tokens),
        )
    out.print(table)
