"""The built site in a real browser, headless: as files and from a server, on a desk and a phone.

Left out where there is no built site, no selenium or no Chromium with its driver.
"""

import functools
import http.server
import json
import shutil
import threading
import time

import pytest

from paths import ROOT

SITE = ROOT / "build/site"
webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: no browser is driven")
BROWSER, DRIVER = (
    next(filter(None, map(shutil.which, names)), None)
    for names in (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
)
pytestmark = [
    pytest.mark.skipif(
        not (SITE / "index.html").is_file(),
        reason="no site in build/site: CONTRIBUTING.md builds it",
    ),
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="no chromium and chromedriver: no browser is driven"
    ),
]
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Browser:
    """A browser that tells what it asked for, what its console said and what it shows."""

    def __init__(self, driver, base):
        self.driver, self.base = driver, base

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def open(self, page):
        self.driver.get(f"{self.base}/{page}")

    def find(self, css):
        return self.driver.find_element("css selector", css)

    def click(self, css):
        element = self.find(css)
        self.driver.execute_script(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element
        )
        element.click()

    def until(self, condition):
        """What `condition` returns as soon as that is something."""
        end = time.monotonic() + 20
        while not (found := condition()):
            assert time.monotonic() < end, f"{self.driver.current_url}: nothing came"
            time.sleep(0.05)
        return found

    def foreign(self):
        """Addresses of another host that were asked for since the last call."""
        messages = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        asked = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        assert asked, "the browser's log has no requests"
        return [url for url in asked if not url.startswith((self.base, "data:"))]

    def check(self):
        """The page is laid out, fits, has its pictures, and has asked nobody else."""
        shown = self.until(lambda: self.driver.execute_script(LAID_OUT))
        assert shown["unloaded"] == [] and shown["flat"] == [], self.driver.current_url
        assert shown["width"] <= shown["window"], f"{self.driver.current_url} is too wide"
        assert [entry["message"] for entry in self.driver.get_log("browser")] == []
        assert self.foreign() == []
        return shown


LAID_OUT = """
if (document.readyState !== "complete") return null;
const images = [...document.images];
images.forEach((image) => { image.loading = "eager"; });
if (!images.every((image) => image.complete)) return null;
const formulas = [...document.querySelectorAll("math")];
return {
  images: images.length,
  unloaded: images.filter((image) => !image.naturalWidth).map((image) => image.src),
  formulas: formulas.length,
  flat: formulas.filter((formula) => formula.checkVisibility()
    && !formula.getBoundingClientRect().height).map((formula) => formula.textContent),
  width: document.documentElement.scrollWidth,
  window: window.innerWidth,
};
"""


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage":
        options.add_argument(argument)  # also as root, in a container
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(params=["file", "http"])
def browser(request, driver, server):
    driver.get("about:blank")
    for log in "performance", "browser":
        driver.get_log(log)
    return Browser(driver, SITE.as_uri() if request.param == "file" else server)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_reader_finds_the_way(browser, width):
    browser.resize(*WIDTHS[width])
    browser.open("index.html")
    assert browser.find("h1").text.startswith("fastnn")
    browser.check()

    browser.click("article a[href='guide/index.html']")
    browser.until(lambda: browser.driver.current_url.endswith("guide/index.html"))
    browser.click("a.next-page")
    browser.until(lambda: browser.driver.current_url.endswith("guide/network.html"))
    shown = browser.check()
    assert shown["formulas"] > 5 and shown["images"] > 0

    answer = browser.find("article details :not(summary)")
    assert not answer.is_displayed()
    browser.click("article details summary")
    browser.until(answer.is_displayed)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "word, address, text",
    [
        ("dropout", "reference/layers.html#fastnn.Dropout", "Dropout"),
        ("反向传播", "guide/backward.html", "反向传播"),
    ],
)
def test_a_search_finds_the_page(browser, width, word, address, text):
    browser.resize(*WIDTHS[width])
    browser.open("index.html")
    if width == "phone":
        browser.click("header label[for='__navigation']")
    box = browser.find("input[name='q']")
    browser.until(box.is_displayed)
    box.send_keys(word)
    box.submit()
    browser.until(lambda: "search.html" in browser.driver.current_url)
    found = browser.until(
        lambda: browser.driver.find_elements("css selector", "#search-results li a")
    )
    links = [link for link in found if address in link.get_attribute("href")]
    assert links, f"{word}: {[link.get_attribute('href') for link in found]}"
    browser.until(links[0].is_displayed)
    browser.check()
    browser.driver.get(links[0].get_attribute("href"))
    assert text in browser.find("article").text
    browser.check()


def test_every_page_fits_a_phone(driver):
    browser = Browser(driver, SITE.as_uri())
    browser.resize(*WIDTHS["phone"])
    pages = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        browser.open(page)
        browser.check()
