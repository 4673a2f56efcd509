"""Chromium without a window, spoken to over its DevTools protocol through a pipe: no port, no driver.

A page is opened from a file; whatever it complains of and whatever it asks of a network is kept.
"""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness import Failed

# Fedora's package has the longer name only.
COMMAND = "chromium-browser" if shutil.which("dnf") else "chromium"
ANSWER_SECONDS_MAX = 60  # its first start on a busy machine takes some
# A container's /dev/shm may be too small, and as root it starts without its sandbox only: all that
# it opens here are files of our own.
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
         "--remote-debugging-pipe"]
COMPLAINTS = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}


class Browser:
    """One process with one page; use it with `with`."""

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        ours_in, self.to_browser = os.pipe()
        self.from_browser, ours_out = os.pipe()

        def place_pipes():
            """It reads from 3 and writes to 4; first out of the way, for they may be each other's."""
            os.dup2(ours_in, 13)
            os.dup2(ours_out, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        self.process = subprocess.Popen(
            [COMMAND, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            preexec_fn=place_pipes, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        os.close(ours_in)
        os.close(ours_out)
        self.received, self.calls_count, self.session = b"", 0, None
        self.complaints, self.requests = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, **parameters):
        """One command and its result; what happens meanwhile is kept."""
        self.calls_count += 1
        message = {"id": self.calls_count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.calls_count:
                if "error" in answer:
                    raise Failed(f"{method}: {answer['error']}")
                return answer["result"]
            self.keep(answer)

    def receive(self):
        until = time.monotonic() + ANSWER_SECONDS_MAX
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.from_browser], [], [], until - time.monotonic())
            more = os.read(self.from_browser, 1 << 20) if ready else b""
            if not more:
                raise Failed(f"{COMMAND} does not answer; it ended with {self.process.poll()}")
            self.received += more
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def keep(self, event):
        parameters = event.get("params", {})
        if event.get("method") in COMPLAINTS:
            self.complaints.append(json.dumps(parameters)[:1000])
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def look(self, width, height, is_dark):
        """Size of the window and the reader's choice of colours; a narrow one is a phone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path):
        """Opens a file and waits until all of it is there."""
        self.complaints, self.requests = [], []
        url = Path(path).resolve(strict=True).as_uri()
        self.call("Page.navigate", url=url)
        until = time.monotonic() + ANSWER_SECONDS_MAX
        while self.run("[location.href, document.readyState].join(' ')") != f"{url} complete":
            if time.monotonic() > until:
                raise Failed(f"{path} is not complete after {ANSWER_SECONDS_MAX} s")
            time.sleep(0.02)

    def run(self, script):
        """The value of an expression on the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise Failed(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def point_at(self, x, y, is_click=False):
        """Moves the pointer, as a person would; with `is_click` presses and lets go."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if is_click else ():
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
