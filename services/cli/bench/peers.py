"""`tokenmill bench peers`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.children import Child, ChildFailed
from benchmarks.peers.catalogue import PEERS, PeerSpec
from benchmarks.peers.compare import compare
from benchmarks.peers.install import PeerUnavailable, install
from benchmarks.peers.sides import OurSide, PeerSide, start_peer
from benchmarks.peers.workload import Cell, cells_named
from benchmarks.prose import TokenStream, load_prose
from benchmarks.quiet import in_company
from services.cli.bench.engine import QUANTIZED, start_engine
from services.cli.cluster.build import prepare_model
from services.cli.failure import CommandFailed
from services.cli.own_cluster import own_cluster
from services.cli.terminal import err

PRECISIONS = ("bf16", "int8")


def peers(
    names: Sequence[str],
    *,
    precisions: Sequence[str],
    cell_names: Sequence[str],
    num_rounds: int,
    peers_dir: Path | None,
) -> dict[str, Any]:
    """Measures us beside each peer in turn; a peer that cannot be had is said under `skipped`.

    Args:
        names: of PEERS; none: all.
        precisions: of PRECISIONS.
        cell_names: of CELLS; none: all.
        num_rounds: how often each cell.
        peers_dir: keeps environments and what peers make of the weights; None: beside the
            model, whose cache it is.

    Raises:
        CommandFailed: a name is unknown, or our own side fails.
    """
    chosen = _chosen(names)
    try:
        cells = cells_named(cell_names)
    except ValueError as exc:
        raise CommandFailed(str(exc), exit_code=2) from exc
    if unknown := set(precisions) - set(PRECISIONS):
        allowed = ", ".join(PRECISIONS)
        raise CommandFailed(f"precision is {sorted(unknown)[0]!r}; allowed: {allowed}", exit_code=2)
    model_dir = Path(prepare_model(None).directory)
    peers_dir = peers_dir or model_dir.parents[1] / "peers"
    gguf = _fetch_gguf(peers_dir / "weights")
    skipped: dict[str, str] = {}
    pythons = _installed(chosen, peers_dir, skipped)
    entries: list[dict[str, Any]] = []
    for precision in precisions:
        wanted = [spec for spec in chosen if precision in spec.precisions and spec.name in pythons]
        if not wanted:
            continue
        with _our_side(precision, model_dir) as ours, tempfile.TemporaryDirectory() as logs:
            for spec in wanted:
                log_file = Path(logs) / f"{spec.name}.log"
                try:
                    with in_company():
                        child = start_peer(
                            spec, pythons[spec.name], precision, model_dir, gguf, log_file
                        )
                    with child:
                        entries.append(
                            _measured(spec, precision, child, ours, model_dir, cells, num_rounds)
                        )
                except ChildFailed as exc:
                    skipped[f"{spec.name} {precision}"] = exc.why
                    err.print(f"{spec.title} is left out: {exc.why}")
    return {
        "peers": entries,
        "skipped": skipped,
        "model": model_dir.name,
        "num_threads": os.cpu_count(),
        "num_rounds": num_rounds,
    }


def _chosen(names: Sequence[str]) -> list[PeerSpec]:
    known = {spec.name: spec for spec in PEERS}
    for name in names:
        if name not in known:
            allowed = ", ".join(known)
            raise CommandFailed(f"peer is {name!r}; allowed: {allowed}", exit_code=2)
    return [known[name] for name in names] or list(PEERS)


def _installed(
    specs: Sequence[PeerSpec], peers_dir: Path, skipped: dict[str, str]
) -> dict[str, Path]:
    pythons: dict[str, Path] = {}
    for spec in specs:
        err.print(f"{spec.title}: {', '.join(spec.environment.requirements)}")
        try:
            with in_company():
                pythons[spec.name] = install(spec.environment, peers_dir)
        except PeerUnavailable as exc:
            skipped[spec.name] = str(exc)
            err.print(f"{spec.title} is left out: {exc}")
    return pythons


@contextlib.contextmanager
def _our_side(precision: str, model_dir: Path) -> Iterator[OurSide]:
    quantization = precision if precision in QUANTIZED else None
    with (
        tempfile.TemporaryDirectory(prefix="tokenmill-bench-") as logs,
        own_cluster(dtype=None if quantization else precision, quantization=quantization) as state,
    ):
        try:
            engine = start_engine(precision, model_dir, Path(logs))
        except ChildFailed as exc:
            raise CommandFailed(f"our engine in {precision} failed: {exc.why}") from exc
        with engine:
            yield OurSide(engine, state.http_url, TokenStream.of_model(model_dir))


def _measured(
    spec: PeerSpec,
    precision: str,
    child: Child,
    ours: OurSide,
    model_dir: Path,
    cells: Sequence[Cell],
    num_rounds: int,
) -> dict[str, Any]:
    title = f"{spec.title} {spec.precisions[precision]}"
    peer = PeerSide(child, TokenStream.of_model(model_dir), _prose_ids(model_dir))
    found = compare(ours, peer, cells, num_rounds, lambda text: err.print(f"{title}: {text}"))
    return {
        "peer": spec.name,
        "title": spec.title,
        "variant": spec.precisions[precision],
        "precision": precision,
        "load_s": child.ready["load_s"],
        "requirements": list(spec.environment.requirements),
        "cells": found,
        "machine": ours.machine(),
    }


def _prose_ids(model_dir: Path) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    return [tokenizer.encode(prose.text).ids for prose in load_prose()]


def _fetch_gguf(directory: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.gguf", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed("the weights that peers load could not be fetched")
    return Path(done.stdout.strip())
