"""A chromium that looks at pages, by Selenium and Debian's chromium-driver."""

import json
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

PATIENCE = 20  # seconds; far above what anything needs that is waited for
SIZES = {"small": (360, 740), "middle": (1024, 900), "large": (1920, 1080)}
TALLEST = 3000


class Fault(Exception):
    """The page is not as it should be."""


class Browser:
    def __init__(self, chromium, driver, axe):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        # As root, and where /dev/shm is small, it does not start otherwise.
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars", "--lang=en-US",
                         "--disable-background-networking", "--disable-component-update", "--no-first-run"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(PATIENCE)
        self.axe = axe
        self.shape("large")

    def close(self):
        self.driver.quit()

    def open(self, address):
        self.driver.get("about:blank")  # the page before asks a balancer that has ended, and is not to say so later
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.driver.get(address)

    def shape(self, size, scheme="light", height=None):
        width, usual = SIZES[size] if isinstance(size, str) else size
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                    {"width": width, "height": height or usual, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector="body"):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def await_that(self, what, condition, seconds=PATIENCE):
        """How long it took, in seconds."""
        begin = time.monotonic()
        while not condition():
            if time.monotonic() - begin > seconds:
                raise Fault(f"not within {seconds} s: {what}; the page says: {self.text()[:600]!r}")
            time.sleep(0.02)
        return time.monotonic() - begin

    def await_text(self, selector, wanted, seconds=PATIENCE):
        return self.await_that(f"{wanted!r} in {selector}", lambda: wanted in self.text(selector), seconds)

    def settle(self):
        """Until what is due is drawn."""
        self.driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")

    def complaints(self, expected=()):
        """What the console holds against the page, but for what is expected."""
        said = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        return [message for message in said if not any(part in message for part in expected)]

    def addresses(self):
        """Everything the browser has asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def accessibility(self):
        """What axe finds, in a line each."""
        self.run(self.axe)
        found = self.driver.execute_async_script("""
            const done = arguments[0];
            axe.run(document, { resultTypes: ["violations"] }).then((result) => done(result.violations), (error) => done(`${error}`));
        """)
        if isinstance(found, str):
            raise Fault(f"axe broke: {found}")
        return [f"{rule['id']}: {rule['help']}: " + "; ".join(f"{' '.join(map(str, node['target']))} ({node['failureSummary'].splitlines()[-1].strip()})"
                                                               for node in rule["nodes"][:3]) for rule in found]

    def screenshot(self, path, size, scheme="light", is_whole=True):
        self.shape(size, scheme)
        self.settle()
        if is_whole:
            self.shape(size, scheme, min(TALLEST, self.run("return document.documentElement.scrollHeight")))
        time.sleep(0.4)  # colours and sizes change over
        self.driver.save_screenshot(path)
