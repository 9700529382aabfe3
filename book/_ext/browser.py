"""The built site served on the loopback and a headless Chromium to read it with: for the tests and for the PDF."""

import gzip
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from playwright.sync_api import Browser, Playwright, sync_playwright

# The headless shell first: it opens no windows behind the page and needs half the time.
COMMANDS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COMPRESSED = {".html", ".css", ".js", ".json", ".svg", ".xml", ".txt", ".md", ".ipynb", ".csv"}  # as GitHub Pages does


class Handler(SimpleHTTPRequestHandler):
    """Serves one folder as GitHub Pages does: texts compressed, and 404.html for what is not there."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        found = path.is_file()
        path = path if found else Path(self.directory) / "404.html"
        body = path.read_bytes() if path.is_file() else b"not found"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", self.guess_type(path))
        if path.suffix in COMPRESSED:
            body = gzip.compress(body, 6)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Serve a folder on a free port of the loopback; yields its address, which ends in a slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def chromium(playwright: Playwright) -> str | None:
    """Return the path of a Chromium: $CHROMIUM, one on the path, or the one of `playwright install chromium`."""
    own = playwright.chromium.executable_path
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, COMMANDS), own if Path(own).is_file() else None]
    return next((path for path in found if path), None)


@contextmanager
def headless() -> Iterator[Browser | None]:
    """Yield a headless browser, or None where there is no Chromium."""
    with sync_playwright() as playwright:
        path = chromium(playwright)
        if path is None:
            yield None
            return
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


if __name__ == "__main__":  # says by its exit status whether there is one
    with sync_playwright() as found:
        path = chromium(found)
    print(path or "no Chromium found")
    sys.exit(path is None)
