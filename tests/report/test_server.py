"""The report that is served: to this machine alone, read-only, and always new."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.helpers import report_runs
from vae_sweeps.report import server
from vae_sweeps.report.server import LivePage, Server
from vae_sweeps.runs.sweep_folder import SweepFolder


@pytest.fixture
def sweep(tmp_path) -> SweepFolder:
    return report_runs.make_sweep(tmp_path)


@pytest.fixture
def served(sweep: SweepFolder) -> Iterator[Server]:
    found = Server(LivePage([sweep]))
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def answer(served: Server, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", served.server_address[1], timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    found = response.status, response.read(), dict(response.getheaders())
    connection.close()
    return found


def test_the_page_is_that_of_the_report_and_may_ask_this_server_alone(served: Server) -> None:
    code, html, headers = answer(served)
    text = html.decode()
    assert code == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "connect-src 'self'" in text
    assert 'id="live"' in text
    assert headers["X-Frame-Options"] == "DENY"
    assert answer(served, method="HEAD")[:2] == (200, b"")


@pytest.mark.parametrize("path", ["/", "/version"])
def test_other_sites_get_nothing(served: Server, path: str) -> None:
    port = served.server_address[1]
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "[::1",
        "",
        "localhost@evil.example",
    ):
        code, content, _ = answer(served, path, Host=host)
        assert (code, b"version" in content, b"<html" in content) == (403, False, False), host
    assert answer(served, path, Origin="http://evil.example")[0] == 403
    assert answer(served, path, Origin="null")[0] == 200  # it cannot read the answer: no header allows it
    assert not any(name.lower().startswith("access-control") for name in answer(served, path)[2])
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "localhost:9999"):  # the last through ssh -L
        assert answer(served, path, Host=host)[0] == 200


def test_nothing_else_is_served_and_nothing_is_taken(served: Server, sweep: SweepFolder) -> None:
    for path in ("/etc/passwd", "/../../etc/passwd", "/report.html", "//evil.example/version"):
        assert answer(served, path)[0] == 404
    before = sorted(path for path in sweep.output_dir.rglob("*"))
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert answer(served, method=method)[0] == 501
    assert sorted(path for path in sweep.output_dir.rglob("*")) == before


def test_no_other_machine_is_answered(served: Server) -> None:
    host, port = served.server_address[:2]
    assert host == "127.0.0.1"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for other in others:
        with pytest.raises(ConnectionRefusedError), socket.create_connection((str(other), port), timeout=5):
            pass


def test_a_change_in_a_folder_is_a_new_version_and_no_change_is_none(sweep, served, monkeypatch) -> None:
    monkeypatch.setattr(server, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(server, "_REST", 0.0)
    first = served.live.newest
    stop, has_looked = threading.Event(), threading.Event()
    traces = LivePage._traces

    def looked(live: LivePage) -> list[object]:
        found = traces(live)
        has_looked.set()
        return found

    monkeypatch.setattr(LivePage, "_traces", looked)
    thread = threading.Thread(target=served.live.keep_new, args=[stop])
    thread.start()
    for _ in range(3):
        has_looked.clear()
        assert has_looked.wait(30)
    assert served.live.newest is first
    run = sweep.runs()[0]
    run.result.unlink()
    for _ in range(2000):
        has_looked.clear()
        assert has_looked.wait(30)
        if served.live.newest is not first:
            break
    stop.set()
    thread.join()
    assert json.loads(answer(served, "/version")[1]) == {"version": 2, "counts": served.live.newest.counts}
    assert served.live.newest.counts != first.counts
