"""The process that speaks HTTP for the agent, against real sockets on loopback."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stead.ledger import submit
from stead.ledger.witness import CHILD


class Witness(BaseHTTPRequestHandler):
    """Answers by path; keeps what it was sent."""

    seen: list[tuple[str, bytes, str | None]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, body, self.headers.get("Content-Type")))
        if self.path.endswith("/hang"):
            time.sleep(3)
        status = 409 if self.path.endswith("/stale") else 307 if self.path.endswith("/moved") else 200
        answer = b"x" * 70_000 if self.path.endswith("/huge") else b"7\n" if status == 409 else "— é\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/x.tlog.size" if status == 409 else "text/plain")
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    Witness.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Witness) as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()
        thread.join()


def run(requests: list[dict[str, str]], timeout_s: float = 5.0) -> list[dict[str, Any]]:
    """One whole process, as the agent starts it."""
    given = json.dumps({"timeout_s": timeout_s, "requests": requests})
    done = subprocess.run([sys.executable, "-I", "-S", str(CHILD)], input=given, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def ask(*urls: str, timeout_s: float = 5.0) -> list[dict[str, Any]]:
    return run([{"url": url, "body": "old 0\n\n— ü\n"} for url in urls], timeout_s)


def test_answers_come_in_the_order_of_the_requests(server: str) -> None:
    first, second = ask(f"{server}/a/add-checkpoint", f"{server}/b/stale")
    assert (first["status"], base64.b64decode(first["body"]), first["error"]) == (200, "— é\n".encode(), "")
    assert (second["status"], second["content_type"], base64.b64decode(second["body"])) == (409, "text/x.tlog.size", b"7\n")
    assert sorted(Witness.seen)[0] == ("/a/add-checkpoint", "old 0\n\n— ü\n".encode(), "text/plain; charset=utf-8")


def test_one_that_hangs_costs_the_others_nothing(server: str) -> None:
    hung, good = ask(f"{server}/hang", f"{server}/good", timeout_s=1.0)
    assert (hung["status"], hung["error"]) == (0, "no answer within 1 s")
    assert good["status"] == 200


def test_what_goes_wrong_is_words(server: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        urls = [f"http://127.0.0.1:{port}/", "http://no such host/x y", "ftp://x/", "", "http://[", "http://127.0.0.1:99999/"]
        answers = ask(*urls, f"{server}/huge")
    assert [one["status"] for one in answers] == [0] * 7 and all(one["error"] for one in answers)
    assert answers[0]["error"] == "Connection refused" and "more than" in answers[6]["error"]


def test_the_words_of_one_that_speaks_no_http_are_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].sendall(b"\x1b[2J" + b"x" * 60_000 + b"\n"), daemon=True)
        thread.start()
        (answer,) = ask(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
    assert answer["status"] == 0 and 0 < len(answer["error"]) <= submit.WORDS_MAX


def test_a_redirect_is_not_followed(server: str) -> None:
    (moved,) = ask(f"{server}/moved")
    assert moved["status"] == 307 and [path for path, *_ in Witness.seen] == ["/moved"]


def test_without_tls_nothing_of_it_is_loaded(server: str) -> None:
    lines = ("import sys", f"sys.path.insert(0, {str(CHILD.parent)!r})", "import submit")
    code = "; ".join((*lines, f"submit.ask([{{'url': {server!r}, 'body': ''}}], 5)", "print('_ssl' in sys.modules)"))
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "False\n", done.stderr


def test_https_is_verified(tmp_path: Path) -> None:
    """A certificate that nobody vouches for is no witness."""
    import datetime
    import ssl

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1))
    certificate = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "pem").write_bytes(certificate + key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    Witness.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Witness) as one:
        one.socket = context.wrap_socket(one.socket, server_side=True)
        one.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        (answer,) = ask(f"https://localhost:{one.server_port}/add-checkpoint")
        one.shutdown()
        thread.join()
    assert answer["status"] == 0 and "certificate" in answer["error"].lower() and Witness.seen == []
