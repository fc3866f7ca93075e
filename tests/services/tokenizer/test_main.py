import json
import os
import signal
import subprocess
import sys

import pytest
from tokenmill.v1.tokenizer_pb2_grpc import TokenizerServiceStub

from services.core.request import ChatMessage
from services.runtime.rpc_client import open_channel
from services.wire.tokenizer import TokenizeQuery, tokenize_request_to_pb

pytestmark = pytest.mark.flow


def start(model_dir) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.tokenizer.main"],
        env={**os.environ, "TOKENMILL_MODEL_DIR": str(model_dir), "TOKENMILL_MODEL_NAME": "tiny"},
        stdout=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], event: str) -> dict:
    assert process.stdout is not None
    for line in process.stdout:
        if (entry := json.loads(line))["event"] == event:
            return entry
    raise AssertionError(f"{event} was never logged")


async def test_the_process_serves_and_drains(tiny_model_dir):
    with start(tiny_model_dir) as process:
        try:
            port = read_until(process, "rpc.listening")["port"]
            channel = open_channel(f"127.0.0.1:{port}")
            query = TokenizeQuery("tiny", (ChatMessage("user", "hi"),))
            answer = await TokenizerServiceStub(channel).Tokenize(
                tokenize_request_to_pb(query), timeout=20
            )
            await channel.close()
            assert len(answer.token_ids) == 1 + len("<user>hi<assistant>")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_the_process_imports_neither_torch_nor_transformers():
    code = (
        "import sys, services.tokenizer.main;"
        "sys.exit(', '.join({'torch', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stderr.strip()


def test_a_process_without_a_model_ends_with_the_missing_file_named(tmp_path):
    with start(tmp_path) as process:
        entry = read_until(process, "process.failed")
        assert f"{tmp_path}/tokenizer.json cannot be read" in entry["exception"]
        assert process.wait(20) == 1
