"""A stand-in for Google Cloud Storage: its JSON API over HTTP, objects in memory.

python -m tests.tools.bucket --port=9023

Answers the requests of gcsfs, google-cloud-storage and TensorStore: reading (ranges,
generations), writing (in one part or several), listing, copying, deleting, and the
preconditions by which a write fails if another client has written first. The reference:
https://cloud.google.com/storage/docs/json_api/v1. `environment` points clients to it.
"""

import argparse
import base64
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

import google_crc32c

NAME = "stand-in"  # the only bucket


def environment(port: int) -> dict[str, str]:
    """Environment variables that point the three clients to this server."""
    url = f"http://localhost:{port}"
    return {
        "STORAGE_EMULATOR_HOST": url,
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks by gRPC for the bucket's kind
        "FSSPEC_GS_TOKEN": "anon",
        "FSSPEC_GCS_TOKEN": "anon",
        "NO_GCE_CHECK": "true",
        "GOOGLE_CLOUD_PROJECT": "none",
    }


class Failed(Exception):
    """An answer with a status other than 200."""


class Objects:
    """Objects by name: (content, generation, time of writing)."""

    def __init__(self):
        self._kept, self._lock, self._count = {}, threading.RLock(), 1000

    def get(self, name):
        if name not in self._kept:
            raise Failed(404)
        return self._kept[name]

    def put(self, name, content, query):
        with self._lock:
            self._check(name, query)
            self._count += 1
            self._kept[name] = bytes(content), self._count, time.time()
            return describe(name, self._kept[name])

    def delete(self, name, query):
        with self._lock:
            self.get(name)
            self._check(name, query)
            del self._kept[name]

    def names(self):
        with self._lock:
            return sorted(self._kept)

    def spoil(self, name, content):
        """Changes an object and keeps its generation and time, as a flipped bit would."""
        with self._lock:
            _, generation, written = self._kept[name]
            self._kept[name] = content, generation, written

    def _check(self, name, query):
        expected = query.get("ifGenerationMatch")
        if expected is not None and int(expected) != self._kept.get(name, (b"", 0, 0))[1]:
            raise Failed(412)


def describe(name, kept):
    content, generation, written = kept
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(written)) + ".000Z"
    crc = google_crc32c.value(content).to_bytes(4, "big")
    return {
        "kind": "storage#object",
        "bucket": NAME,
        "name": name,
        "size": str(len(content)),
        "generation": str(generation),
        "metageneration": "1",
        "updated": moment,
        "timeCreated": moment,
        "crc32c": base64.b64encode(crc).decode(),
    }


class Handler(BaseHTTPRequestHandler):
    """Answers one request about `self.server.objects`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self):
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunks() if "Transfer-Encoding" in self.headers else self.rfile.read(length)
        try:
            for method, pattern, action in ROUTES:
                match = re.fullmatch(pattern, parts.path)
                if method == self.command and match:
                    return action(self, [unquote(group) for group in match.groups()], query, body)
            raise Failed(501)
        except Failed as failed:
            self.reply(failed.args[0], json.dumps({"error": {"code": failed.args[0]}}).encode())

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def reply(self, code, content=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def tell(self, value):
        self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

    def _chunks(self):
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole


def about_bucket(handler, groups, query, body):
    if groups[0] != NAME:
        raise Failed(404)
    handler.tell({"kind": "storage#bucket", "name": NAME, "id": NAME, "location": "HERE"})


def listing(handler, groups, query, body):
    if groups[0] != NAME:
        raise Failed(404)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    items, prefixes = [], set()
    for name in handler.server.objects.names():
        rest = name.removeprefix(prefix)
        if not name.startswith(prefix):
            continue
        if delimiter and delimiter in rest:
            prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
        else:
            items.append(describe(name, handler.server.objects.get(name)))
    handler.tell({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})


def read(handler, groups, query, body):
    kept = handler.server.objects.get(groups[1])
    content, generation, _ = kept
    if query.get("ifGenerationNotMatch") == str(generation):
        return handler.reply(304)
    if query.get("ifGenerationMatch", str(generation)) != str(generation):
        raise Failed(412)
    if query.get("alt") != "media":
        return handler.tell(describe(groups[1], kept))
    stamp = {"x_goog_generation": str(generation)}
    span = re.fullmatch(r"bytes=(\d*)-(\d*)", handler.headers.get("Range", ""))
    if not span:
        return handler.reply(200, content, **stamp)
    first, last = span.groups()
    begin = int(first) if first else max(len(content) - int(last), 0)
    end = min(int(last) + 1, len(content)) if first and last else len(content)
    if begin >= len(content) and content:
        raise Failed(416)
    stamp["Content_Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
    handler.reply(206, content[begin:end], **stamp)


def write(handler, groups, query, body):
    kind = query["uploadType"]
    if kind == "resumable":
        number = str(len(handler.server.uploads))
        handler.server.uploads[number] = query.get("name") or json.loads(body)["name"], query, b""
        place = f"http://{handler.headers['Host']}/upload/resume/{number}"
        return handler.reply(200, Location=place)
    name, content = query.get("name"), body
    if kind == "multipart":
        boundary = re.search('boundary="?([^";]+)', handler.headers["Content-Type"])[1].encode()
        _, facts, data, _ = body.split(b"--" + boundary)
        name = json.loads(re.split(b"\r?\n\r?\n", facts, maxsplit=1)[1])["name"]
        content = re.split(b"\r?\n\r?\n", data, maxsplit=1)[1]
        content = content[: -2 if content.endswith(b"\r\n") else -1]
    handler.tell(handler.server.objects.put(name, content, query))


def resume(handler, groups, query, body):
    name, query, before = handler.server.uploads[groups[0]]
    whole = before + body
    total = handler.headers.get("Content-Range", "/*").rpartition("/")[2]
    if total == "*" or int(total) > len(whole):
        handler.server.uploads[groups[0]] = name, query, whole
        return handler.reply(308, Range=f"bytes=0-{len(whole) - 1}")
    handler.tell(handler.server.objects.put(name, whole, query))


def copy(handler, groups, query, body):
    source, target = groups[1], groups[-1]
    content, _, _ = handler.server.objects.get(source)
    made = handler.server.objects.put(target, content, query)
    handler.tell({"kind": "storage#rewriteResponse", "done": True, "resource": made})


def move(handler, groups, query, body):
    content, _, _ = handler.server.objects.get(groups[1])
    made = handler.server.objects.put(groups[-1], content, query)
    handler.server.objects.delete(groups[1], {})
    handler.tell(made)


def delete(handler, groups, query, body):
    handler.server.objects.delete(groups[1], query)
    handler.reply(204)


BUCKET = "(?:/storage/v1)?/b/([^/]+)"
ROUTES = (
    ("GET", BUCKET, about_bucket),
    ("GET", BUCKET + "/o", listing),
    ("GET", "(?:/download)?" + BUCKET + "/o/([^/]+)", read),
    ("POST", "/upload" + BUCKET + "/o", write),
    ("PUT", "/upload/resume/([0-9]+)", resume),
    ("POST", "/upload/resume/([0-9]+)", resume),
    ("POST", BUCKET + "/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)", copy),
    ("POST", BUCKET + "/o/([^/]+)/moveTo/o/([^/]+)", move),
    ("DELETE", BUCKET + "/o/([^/]+)", delete),
)


class Server(ThreadingHTTPServer):
    """A server on a port of this machine; 0 takes a free port."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0):
        super().__init__(("localhost", port), Handler)
        self.objects, self.uploads = Objects(), {}

    def handle_error(self, request, client_address):
        """Ignores clients that were killed, and prints all other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    """Serves until it is killed."""
    arguments = argparse.ArgumentParser(description="A stand-in for Google Cloud Storage.")
    arguments.add_argument("--port", type=int, default=9023)
    port = arguments.parse_args().port
    print("\n".join(f"export {name}={value}" for name, value in environment(port).items()))
    print(f"# gs://{NAME}", flush=True)
    Server(port).serve_forever()


if __name__ == "__main__":
    main()
