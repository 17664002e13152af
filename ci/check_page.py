"""Has a headless Chromium show the page of a running VMM, and looks at what a person would see there.

Arguments: the page's address, the vtmem program, the VMM's control socket, a file for a picture. Chromium is spoken to in its
DevTools protocol by a pipe: JSON messages that end with a zero byte, by descriptors 3 and 4.
"""
import base64
import json
import os
import subprocess
import sys
import tempfile
import time

# Seconds until what has to happen must have: a lab is slow.
PATIENCE = 300


class Browser:
    """A page in a Chromium of its own."""

    def __init__(self, address):
        self.address, self.next_id, self.complaints, self.foreign = address, 0, [], []
        self.profile = tempfile.TemporaryDirectory()
        to_read, self.to = os.pipe()
        self.of, of_write = os.pipe()

        def descriptors():
            # Both may be in each other's place.
            reading, writing = os.dup(to_read), os.dup(of_write)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--window-size=1200,1000", f"--user-data-dir={self.profile.name}",
             "--remote-debugging-pipe", "about:blank"],
            preexec_fn=descriptors, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(of_write)
        self.session, self.rest = None, b""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.ask(domain + ".enable")
        self.ask("Page.navigate", url=address)

    def ask(self, method, **params):
        """The answer to a request; what happens meanwhile is noted."""
        self.next_id += 1
        message = {"id": self.next_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.next_id:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.note(answer)

    def message(self):
        while b"\0" not in self.rest:
            data = os.read(self.of, 1 << 16)
            if not data:
                raise SystemExit("chromium has ended")
            self.rest += data
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def note(self, event):
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            # What nobody asked the page for, and which it does not have.
            if not params["entry"].get("url", "").endswith("/favicon.ico"):
                self.complaints.append(params["entry"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith((self.address, "about:", "data:")):
                self.foreign.append(url)

    def value(self, expression):
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, what, expression):
        """Until an expression is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.value(expression):
                print(f"{what}: yes", flush=True)
                return
            time.sleep(0.5)
        raise SystemExit(f"not so after {PATIENCE} s: {what}; the page says\n{self.value('document.body.innerText')}")

    def picture(self, path):
        data = self.ask("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def end(self):
        self.process.kill()
        self.process.wait()
        self.profile.cleanup()


# The value beside a curve's name, and the points of its line that are drawn.
SHOWN = """(name => [...document.querySelectorAll('.legend span')]
    .find(item => item.textContent.startsWith(name + ' ')).querySelector('b').textContent)"""
POINTS = """[...document.querySelectorAll('polyline')]
    .map(line => line.getAttribute('points').split(' ').filter(point => point).length)"""


def main(address, vtmem, socket, picture):
    def ctl(*args):
        done = subprocess.run([vtmem, "ctl", "--api-socket", socket, *args], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"vtmem ctl {' '.join(args)}: {done.stderr}")
        return done.stdout

    browser = Browser(address)
    try:
        browser.wait("the machine is shown to run", "document.getElementById('state')?.textContent == 'running'")
        browser.wait("the pool is shown to fill", f"parseFloat({SHOWN}('ram: used')) > 8")
        browser.wait("puts are counted", f"parseInt({SHOWN}('puts')) > 0")
        # Both go on: ten readings of size and use are drawn, and the lines move.
        browser.wait("curves have points", f"{POINTS}.filter(points => points >= 10).length >= 5")
        before = browser.value("document.querySelector('polyline.b').getAttribute('points')")
        browser.wait("curves move", f"document.querySelector('polyline.b').getAttribute('points') != {before!r}")
        ctl("set", "size=8M")
        browser.wait("a smaller size is shown", f"{SHOWN}('size') == '8.0 MiB'")
        browser.wait("evictions are on the time line", "document.getElementById('events').innerText.includes('evictions: ')")
        ctl("set", "min=4M")
        browser.wait("the governor is, too", "document.getElementById('events').innerText.includes('governor: ')")
        browser.wait("and marked among the curves", "document.querySelector('line[x1] title')?.textContent.includes(' → ')")
        browser.wait("no curve is shown of a disk that is not there",
                     "[...document.querySelectorAll('.legend span')].some(item => item.hidden)")
        browser.picture(picture)
        ctl("pause")
        browser.wait("a pause is shown", "document.getElementById('state').textContent == 'paused'")
        metrics = dict(line.rsplit(" ", 1) for line in ctl("metrics").splitlines() if not line.startswith("#"))
        used = f"{int(metrics['vtmem_pool_used_bytes']) / 2**20:.1f} MiB"
        browser.wait(f"what is shown is what there is, {used}", f"{SHOWN}('ram: used') == '{used}'")
        ctl("resume")
        if browser.complaints:
            raise SystemExit(f"the page's script complains: {browser.complaints}")
        if browser.foreign:
            raise SystemExit(f"the page asks others: {browser.foreign}")
    finally:
        browser.end()
    print("no complaint of the page's script, no request to anybody else")


main(*sys.argv[1:])
