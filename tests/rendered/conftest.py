"""A headless Chromium that is asked over its own protocol what a page did: requests, complaints, sizes."""

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import websocket

from facelib.doctor import chromium

CHROMIUM = chromium()
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-port=0 "
    "--remote-allow-origins=* about:blank"
)
PATIENCE = 60  # seconds until a page that does not answer fails its test


@dataclass
class Visit:
    """What happened while a page was open."""

    requests: list[str] = field(default_factory=list)  # addresses asked for
    failures: list[str] = field(default_factory=list)  # requests that failed, and why
    complaints: list[str] = field(default_factory=list)  # the console's errors and warnings, exceptions, blocked loads


class Browser:
    """One tab."""

    def __init__(self, address: str):
        self.socket = websocket.create_connection(address, timeout=PATIENCE)
        self.number, self.visit = 0, Visit()
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters) -> dict:
        """Send a command and return its result; what the page does meanwhile is noted."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message)

    def _note(self, message: dict) -> None:
        name, facts = message["method"], message["params"]
        if name == "Network.requestWillBeSent":
            self.visit.requests.append(facts["request"]["url"])
        elif name == "Network.loadingFailed" and not facts.get("canceled"):
            self.visit.failures.append(facts["errorText"])
        elif name == "Runtime.exceptionThrown":
            self.visit.complaints.append(facts["exceptionDetails"]["text"])
        elif name == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            self.visit.complaints.append(str(facts["args"]))
        elif name == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.visit.complaints.append(facts["entry"]["text"])

    def open(self, page: str, width: int = 1280, height: int = 800, scheme: str = "light") -> Visit:
        """Load a page to its end, pictures that wait to be scrolled to included."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.visit = Visit()
        self.ask("Page.navigate", url=page)
        end = time.monotonic() + PATIENCE
        while self.value("document.readyState") != "complete" or self.value("location.href").split("#")[0] != page:
            assert time.monotonic() < end, f"{page} did not load"
            time.sleep(0.05)
        self.value("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        while not self.value("[...document.images].every(image => image.complete)"):
            assert time.monotonic() < end, f"a picture of {page} did not load"
            time.sleep(0.05)
        return self.visit

    def value(self, expression: str):
        """The value of an expression on the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self, path: Path, whole: bool = False, **options) -> None:
        """Save a screenshot of the window, or of the whole page; options such as `clip` are the protocol's."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, **options)
        path.write_bytes(base64.b64decode(shot["data"]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """A tab of a headless Chromium; skipped where none is installed."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    profile = tmp_path_factory.mktemp("chromium")
    with (profile / "log").open("w") as log:
        process = subprocess.Popen([CHROMIUM, f"--user-data-dir={profile}", *FLAGS.split()], stderr=log)
    try:
        port, end = None, time.monotonic() + PATIENCE
        while port is None:
            assert process.poll() is None and time.monotonic() < end, (profile / "log").read_text()
            port = re.search(r"ws://127\.0\.0\.1:(\d+)/", (profile / "log").read_text())
            time.sleep(0.1)
        whole = websocket.create_connection(
            re.search(r"ws://\S+", (profile / "log").read_text()).group(), timeout=PATIENCE
        )
        whole.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        while "id" not in (answer := json.loads(whole.recv())):
            pass
        target = answer["result"]["targetId"]
        yield Browser(f"ws://127.0.0.1:{port.group(1)}/devtools/page/{target}")
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
