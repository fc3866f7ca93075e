import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tokenmill.v1.inference_pb2_grpc import InferenceServiceStub

from gateway.settings import GatewaySettings
from services.core.errors import InvalidRequest
from services.runtime.settings import read_settings
from services.wire.inference import list_models_request_to_pb, list_models_response_from_pb
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL

_NAMES = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]


def write_certificate(folder: Path, name: str) -> None:
    """A certificate for this machine that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    write_certificate(tmp_path, "first")
    return GatewaySettings(
        http_port=0,
        grpc_port=0,
        drain_timeout_s=5,
        tls_cert_file=tmp_path / "cert.pem",
        tls_key_file=tmp_path / "key.pem",
    )


def name_served(served: Served) -> str:
    port = int(served.url.rpartition(":")[2])
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    found = x509.load_pem_x509_certificate(pem.encode())
    return str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def test_both_doors_speak_tls_and_workers_have_their_own(served: Served, tmp_path: Path):
    served.grpc_target, public = served.gateway.intake.reply_to, served.grpc_target
    served.start_worker()
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    url = served.url.replace("http://127.0.0.1", "https://localhost")
    async with httpx.AsyncClient(verify=trust, base_url=url) as client:
        reply = await client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2})
    assert reply.json()["choices"][0]["text"] == "ab"
    credentials = grpc.ssl_channel_credentials((tmp_path / "cert.pem").read_bytes())
    target = public.replace("127.0.0.1", "localhost")
    async with grpc.aio.secure_channel(target, credentials) as channel:
        listed = await InferenceServiceStub(channel).ListModels(list_models_request_to_pb())
    assert [model.name for model in list_models_response_from_pb(listed)] == [MODEL]


async def test_a_new_certificate_is_taken_without_a_restart(served: Served, tmp_path: Path):
    assert await asyncio.to_thread(name_served, served) == "first"
    assert served.gateway.certificates is not None
    assert not served.gateway.certificates.reload()
    write_certificate(tmp_path, "second")
    assert served.gateway.certificates.reload()
    assert await asyncio.to_thread(name_served, served) == "second"
    (tmp_path / "cert.pem").write_text("half a file")
    with pytest.raises(ssl.SSLError):
        served.gateway.certificates.reload()
    assert await asyncio.to_thread(name_served, served) == "second"


def test_files_that_do_not_belong_together_are_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_certificate(tmp_path, "first")
    monkeypatch.setenv("TOKENMILL_TLS_CERT_FILE", str(tmp_path / "cert.pem"))
    with pytest.raises(InvalidRequest, match="TLS_KEY_FILE"):
        read_settings(GatewaySettings)
    monkeypatch.setenv("TOKENMILL_TLS_KEY_FILE", str(tmp_path / "cert.pem"))
    with pytest.raises(InvalidRequest, match="cannot be used"):
        read_settings(GatewaySettings)
