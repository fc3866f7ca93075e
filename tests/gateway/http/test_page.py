from pathlib import Path

import httpx
import pytest
from starlette.routing import Route, Router

from gateway.http.page import PAGE_DIR, Page
from services.core.errors import NotFound


@pytest.fixture
async def client():
    page = Page()
    router = Router([Route("/", page), Route("/ui/{path:path}", page)])
    transport = httpx.ASGITransport(router)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def test_the_page_may_load_and_run_only_what_comes_from_here(client: httpx.AsyncClient):
    reply = await client.get("/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in policy


async def test_every_file_that_the_page_names_is_there(client: httpx.AsyncClient):
    for script in ("app.js", "chat.js", "live.js", "explanation.js", "markdown.js"):
        text = (await client.get(f"/ui/{script}")).text
        for line in text.splitlines():
            if line.startswith("import ") and '"./' in line:
                name = line.split('"./')[1].split('"')[0]
                assert (await client.get(f"/ui/{name}")).status_code == 200


async def test_what_the_browser_has_already_is_not_sent_again(client: httpx.AsyncClient):
    first = await client.get("/ui/style.css")
    again = await client.get("/ui/style.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["nothing.js", "%2e%2e/main.py", "package.json", "vendor/"])
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str):
    with pytest.raises(NotFound):
        await client.get(httpx.URL(f"http://gateway/ui/{path}"))


def test_no_file_of_the_page_names_another_host():
    own = [path for path in PAGE_DIR.iterdir() if path.suffix in (".html", ".js", ".css")]
    assert own
    assert all("https://" not in Path(path).read_text() for path in own)
