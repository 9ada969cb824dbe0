"""A bucket of S3's as a binary cache that Nix writes to by plain HTTP.

Debian's Nix is built without S3's authentication. So a server on the container's loopback address
signs each request and passes it on (AWS Signature Version 4).
"""

import contextlib
import dataclasses
import http
import http.server
import mmap
import os
import pathlib
import tempfile
import threading
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import requests
import requests_aws4auth

from orchestrator.shared.push import aws_keys, settings
from orchestrator.shared.text import plain

#: Region where the URL names none: Nix' and AWS' own default.
REGION = "us-east-1"

#: Seconds to connect to S3, and without an answer.
LIMITS = (10, 120)

#: Bytes that are received at a time.
BLOCK = 1 << 20

#: Longest answer in bytes. Nix asks a cache that it copies to for small files only.
LARGEST = 16 << 20

#: Answers that say that an object is not there; a bucket that may not be listed says 403.
ABSENT = frozenset({403, 404})

#: Headers of a request that are passed on.
PASSED = ("Content-Type", "Content-Encoding")


class LongAnswerError(requests.RequestException):
    """S3's answer is longer than `LARGEST`."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What S3 answers: the HTTP status and the content, which is not compressed."""

    code: int
    content: bytes


@dataclasses.dataclass
class Bucket:
    """The bucket of an s3: URL: the address of its objects, and the last refusal of a request."""

    address: str
    auth: requests_aws4auth.AWS4Auth
    spool: pathlib.Path
    refusal: str = ""

    def send(
        self, method: str, path: str, headers: dict[str, str], body: mmap.mmap | bytes | None
    ) -> Answer:
        """Sign a request for the object at `path` and send it; the answer is in memory."""
        with requests.request(
            method,
            f"{self.address}{path}",
            headers=headers,
            data=body,
            auth=self.auth,
            timeout=LIMITS,
            allow_redirects=False,
            stream=True,
        ) as answer:
            content = b""
            for block in answer.iter_content(1 << 16):
                content += block
                if len(content) > LARGEST:
                    raise LongAnswerError(f"its answer is longer than {LARGEST >> 20} MiB")
            return Answer(answer.status_code, content)

    def code(self, method: str, answer: Answer) -> int:
        """Return the status for Nix; keep why S3 refuses a request, which Nix does not tell."""
        if method != "PUT" and answer.code in ABSENT:
            return 404
        if answer.code >= http.HTTPStatus.MULTIPLE_CHOICES:
            self.refusal = reason(answer)
        return answer.code


def reason(answer: Answer) -> str:
    """Return in one line what an answer of S3's says is wrong: the code and the message in it."""
    told = f"S3 answers {answer.code}"
    if answer.code < http.HTTPStatus.BAD_REQUEST:
        return f"{told}: the bucket is in another region (?region=REGION)"
    with contextlib.suppress(ET.ParseError):
        root = ET.fromstring(answer.content[:BLOCK])  # noqa: S314 - expat refuses entities that grow
        words = [" ".join(plain(root.findtext(name, "")).split()) for name in ("Code", "Message")]
        told = ": ".join([told, *(word[:200] for word in words if word)])
    return told


def find(url: str, credentials: pathlib.Path, spool: pathlib.Path) -> Bucket:
    """Return the bucket at `url`; files of `spool` hold what is sent. Raises `ValueError`."""
    given, name = settings(url), urllib.parse.urlsplit(url).netloc
    keys = aws_keys(credentials.read_text(), url)
    region = given.get("region", REGION)
    scheme = given.get("scheme", "https")
    # A server that is not AWS' may have no name of its own for each bucket.
    place = (
        f"{given['endpoint']}/{name}"
        if "endpoint" in given
        else f"{name}.s3.{region}.amazonaws.com"
    )
    path = urllib.parse.urlsplit(url).path.strip("/")
    auth = requests_aws4auth.AWS4Auth(
        keys.key_id, keys.secret, region, "s3", session_token=keys.token or None
    )
    return Bucket(f"{scheme}://{place}{path and '/'}{path}", auth, spool)


@contextlib.contextmanager
def served(bucket: Bucket) -> Iterator[str]:
    """Serve `bucket` on the loopback address; yields the URL for Nix."""
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Passes a request of Nix' on to the bucket."""

    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def do_GET(self) -> None:
        self._pass_on(None)

    do_HEAD = do_GET  # noqa: N815 - http.server calls it by this name

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        with tempfile.TemporaryFile(dir=self.bucket.spool) as file:
            while left and (block := self.rfile.read(min(left, BLOCK))):
                file.write(block)
                left -= len(block)
            file.flush()
            # Not read into memory: its checksum is a part of the signature.
            size = os.fstat(file.fileno()).st_size
            self._pass_on(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else b"")

    def _pass_on(self, body: mmap.mmap | bytes | None) -> None:
        headers = {name: self.headers[name] for name in PASSED if name in self.headers}
        # The library signs a host without its port where no header names it.
        headers["Host"] = urllib.parse.urlsplit(self.bucket.address).netloc
        try:
            answer = self.bucket.send(self.command, self.path, headers, body)
        except requests.RequestException as error:
            self.bucket.refusal = (
                self.bucket.refusal or f"S3 cannot be used: {' '.join(plain(str(error)).split())}"
            )
            self._answer(502, b"")
            return
        self._answer(self.bucket.code(self.command, answer), answer.content)

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: what is wrong is in the bucket's refusal."""
