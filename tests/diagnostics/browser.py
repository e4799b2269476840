"""Headless Chromium over the W3C WebDriver protocol, as much of it as the tests need."""

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for an element's id
FOUND = shutil.which("chromium") and shutil.which("chromedriver")


class Browser:
    """One window."""

    def __init__(self, address: str, width: int, height: int, phone: bool):
        self.address = address
        options = {
            "binary": shutil.which("chromium"),
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"],
        }
        if phone:  # narrower than a desktop's window can be, and touched instead of pointed at
            screen = {"width": width, "height": height, "pixelRatio": 2.0, "mobile": True}
            options["mobileEmulation"] = {"deviceMetrics": screen}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs}
        session = self._send("session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        self.address = f"{address}/session/{session}"

    def _send(self, path: str, body: dict | None = None, method: str = "POST"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/{path}".rstrip("/"), data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._send("url", {"url": url})

    def run(self, script: str, *arguments):
        """What ``script``, the body of a function, returns."""
        return self._send("execute/sync", {"script": script, "args": list(arguments)})

    def _find(self, selector: str) -> str:
        return self._send("element", {"using": "css selector", "value": selector})[ELEMENT]

    def hover(self, selector: str) -> None:
        """Move the pointer to the middle of the first element that fits."""
        element = self._find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", {ELEMENT: element})
        move = {"type": "pointerMove", "duration": 0, "origin": {ELEMENT: element}, "x": 0, "y": 0}
        self._send("actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def tap(self, selector: str) -> None:
        """Touch the first element that fits."""
        self._send(f"element/{self._find(selector)}/click", {})

    def log(self, kind: str) -> list[dict]:
        """``browser``: what the console says; ``performance``: events, network requests among them."""
        return self._send("se/log", {"type": kind})

    def printed(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self._send("print", {}))

    def close(self) -> None:
        self._send("", method="DELETE")


@contextmanager
def browser(width: int, height: int = 900, phone: bool = False):
    """A window of that size; its driver and Chromium end with the block."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = next(line for line in driver.stdout if "started successfully" in line)
        port = re.search(r"port (\d+)", line)[1]
        window = Browser(f"http://127.0.0.1:{port}", width, height, phone)
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()
