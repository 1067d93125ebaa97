# SPDX-License-Identifier: Apache-2.0
"""What the page is made of, that it fits, and how it is served."""

import hashlib
import http.client
import json
import threading
import tomllib
from pathlib import Path

import pytest

from lmb_quant.errors import LMBError
from lmb_quant.integrations.web import PageServer, site_files, write_site
from lmb_quant.integrations.web.build import ENGINES, PACKAGE, RECORD, sources_digest
from lmb_quant.integrations.web.server import USUAL_PORT

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def files():
    return site_files()


@pytest.fixture
def get(files):
    server = PageServer(files, 0)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def ask(path, method="GET"):
        connection = http.client.HTTPConnection(*server.server_address[:2])
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()

    yield ask
    server.shutdown()
    server.server_close()


def test_the_engine_is_made_of_the_present_sources():
    record = json.loads(RECORD.read_text())
    assert record["sources"] == sources_digest(), "the engine is older than its sources: run ./dev web"
    assert record["engines"] == {name: hashlib.sha256((PACKAGE / name).read_bytes()).hexdigest() for name in ENGINES}
    assert f"ziglang=={record['ziglang']}\n" in (ROOT / "constraints.txt").read_text()


def test_engine_page_and_one_network_are_below_400_kb(files):
    loaded = [data for name, data in files.items() if not name.startswith("networks/") and not name.endswith(".wasm")]
    engine = max(len(files[f"lmb-quant/{name}"]) for name in ENGINES)  # a browser loads one of them
    size = sum(map(len, loaded)) + engine
    assert size + len(files["networks/index.json"]) + len(files["networks/lmb_small_x4.safetensors"]) < 400_000


def test_the_list_of_networks_names_what_is_there(files):
    entries = json.loads(files["networks/index.json"])
    assert entries[0]["name"] == "lmb_base_x4"
    assert {f"networks/{entry['name']}.safetensors" for entry in entries} == {
        name for name in files if name.endswith(".safetensors")
    }
    for entry in entries:
        assert entry["bytes"] == len(files[f"networks/{entry['name']}.safetensors"])


def test_the_page_loads_nothing_from_elsewhere(files):
    for name, data in files.items():
        if name.endswith((".html", ".css", ".js")):
            assert b"http:" not in data, name
            assert b"https:" not in data, name


def test_the_npm_package_has_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = json.loads((PACKAGE / "package.json").read_text())
    assert package["version"] == project["version"]
    assert package["license"] == project["license"]
    assert "dependencies" not in package


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page.js?x=1", "text/javascript; charset=utf-8"),
        ("/lmb-quant/lmb_quant.wasm", "application/wasm"),
        ("/networks/lmb_small_x4.safetensors", "application/octet-stream"),
    ],
)
def test_files_are_served_with_their_types(get, files, path, kind):
    status, found, data = get(path)
    assert (status, found) == (200, kind)
    assert data == files[path.split("?")[0][1:] or "index.html"]
    assert get(path, "HEAD") == (200, kind, b"")


@pytest.mark.parametrize(
    "path", ["/nothing", "/../pyproject.toml", "/%2e%2e/pyproject.toml", "//etc/passwd", "/build.py", "/%E2%82%AC"]
)
def test_nothing_else_is_served(get, path):
    assert get(path)[0] == 404


def test_a_client_that_goes_away_is_no_error(capsys):
    with PageServer({}, 0) as server:
        for error in (ConnectionResetError, BrokenPipeError, ZeroDivisionError):
            try:
                raise error
            except error:
                server.handle_error(None, ("127.0.0.1", 1))
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "ConnectionResetError" not in said
    assert "BrokenPipeError" not in said


def test_ports():
    with PageServer({}, 0) as taken:
        port = taken.server_address[1]
        with pytest.raises(LMBError, match=rf"port {port}: .+ 0 takes a free one"):
            PageServer({}, port)
    with pytest.raises(LMBError, match="port: 70000 is not allowed"):
        PageServer({}, 70000)
    with PageServer({}) as first, PageServer({}) as second:  # the usual one may be taken, by this or by others
        assert first.server_address[1] != second.server_address[1] != USUAL_PORT
        assert first.address.startswith("http://127.0.0.1:")


def test_the_site_is_written_into_an_empty_folder_only(tmp_path, files):
    write_site(tmp_path / "new" / "site")
    assert {
        path.relative_to(tmp_path / "new" / "site").as_posix(): path.read_bytes()
        for path in (tmp_path / "new").rglob("*")
        if path.is_file()
    } == files
    with pytest.raises(LMBError, match="the folder is not empty"):
        write_site(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(LMBError, match="cannot be made"):
        write_site(tmp_path / "file")
