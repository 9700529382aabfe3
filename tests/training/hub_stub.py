"""A hub of one process: what huggingface_hub asks for when it makes, fills and reads a repository of models."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" + "0" * 34


class Hub:
    """repositories: name -> file -> bytes; requests: (method, path) of everything that was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self, b"")

            do_HEAD = do_GET

            def do_POST(self) -> None:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                hub.answer(self, body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, h: BaseHTTPRequestHandler, body: bytes) -> None:
        path = h.path.partition("?")[0]
        self.requests.append((h.command, path))
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.repositories.setdefault(name, {})
            self.private[name] = asked.get("private", asked.get("visibility") == "private")
            return self.json(h, {"url": f"{self.endpoint}/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            return self.json(h, {"errors": [], "warnings": []})
        if m := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = json.loads(body)["files"]
            plain = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in files]
            return self.json(h, {"files": plain})
        if m := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.repositories[m[1]][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"{self.endpoint}/{m[1]}/commit/{COMMIT}"
            return self.json(h, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        if m := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if m[1] not in self.repositories:
                return self.json(h, {"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            if m[3] not in self.repositories[m[1]]:
                return self.json(h, {"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            content = self.repositories[m[1]][m[3]]
            etag = hashlib.sha1(content).hexdigest()
            return self.send(h, content, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        return self.json(h, {"error": f"the stub knows no {path}"}, 404)

    def json(
        self, h: BaseHTTPRequestHandler, content: Any, status: int = 200, more: dict[str, str] | None = None
    ) -> None:
        self.send(h, json.dumps(content).encode(), status, {"Content-Type": "application/json", **(more or {})})

    def send(self, h: BaseHTTPRequestHandler, content: bytes, status: int, headers: dict[str, str]) -> None:
        h.send_response(status)
        for k, v in headers.items():
            h.send_header(k, v)
        h.send_header("Content-Length", str(len(content)))
        h.end_headers()
        if h.command != "HEAD":
            h.wfile.write(content)
