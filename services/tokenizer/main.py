"""Starts the tokenizer service."""

from __future__ import annotations

from tokenmill.v1.tokenizer_pb2_grpc import add_TokenizerServiceServicer_to_server

from services.runtime.lifecycle import Process, run_process
from services.runtime.logs import get_logger
from services.runtime.rpc_server import RpcServer
from services.tokenizer.model_files import read_model_files
from services.tokenizer.servicer import TokenizerServicer
from services.tokenizer.settings import TokenizerSettings
from services.tokenizer.text_tokenizer import TextTokenizer
from services.tokenizer.thread_pool import BoundedThreadPool
from services.wire.tokenizer import TokenizerArtefact

log = get_logger(__name__)


async def main(process: Process[TokenizerSettings]) -> None:
    """Serves until told to stop, then lets running calls finish."""
    settings = process.settings
    files = read_model_files(settings.model_dir)
    description = files.describe(settings.model_name, settings.max_model_len)
    tokenizer = TextTokenizer(
        files, max_text_bytes=settings.max_text_bytes, max_messages=settings.max_messages
    )
    pool = BoundedThreadPool(num_threads=settings.num_threads, max_pending=settings.max_pending)
    process.stack.callback(pool.close)
    server = RpcServer()
    server.add(
        add_TokenizerServiceServicer_to_server,
        TokenizerServicer(TokenizerArtefact(description, files.tokenizer_json), tokenizer, pool),
        "tokenmill.v1.TokenizerService",
    )
    port = await server.start(settings.host, settings.grpc_port)
    await server.set_ready(True)
    log.info("rpc.listening", port=port, model=description.name)
    await process.stop_requested.wait()
    await server.stop(settings.drain_timeout_s)


if __name__ == "__main__":
    run_process("tokenizer", TokenizerSettings, main)
