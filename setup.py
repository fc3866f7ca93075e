"""Generates the gRPC stubs into protos/gen, then hands over to setuptools."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent.resolve()


def generate_stubs() -> None:
    from grpc_tools import protoc

    protos = ROOT / "protos"
    out = protos / "gen"
    out.mkdir(exist_ok=True)
    sources = sorted(str(path) for path in (protos / "tokenmill").rglob("*.proto"))
    arguments = [
        "protoc",
        f"-I{protos}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc refused the files under protos/")


generate_stubs()
setup()
