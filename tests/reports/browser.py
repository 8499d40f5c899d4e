"""A headless Chromium that opens pages from files, and what a person would notice on them."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

# Elements whose box sticks out of the page, but for what scrolls within a box of its own.
STICKING_OUT = """
const wide = document.documentElement.clientWidth;
return [...document.body.querySelectorAll("*")].filter(one => {
  const box = one.getBoundingClientRect();
  const scrolls = one.parentElement.closest(".scroll");
  return box.width > 0 && !scrolls && (box.right > wide + 1 || box.left < -1);
}).map(one => one.outerHTML.slice(0, 80));
"""

# Neighbours within main, rows and cells whose boxes lie over each other, and text that is cut off or runs over.
OVERLAPPING = """
const found = [];
const families = document.querySelectorAll("main, section, dl, dl > div, thead tr, tbody, tbody tr, figure, nav ul");
for (const family of families) {
  const boxes = [...family.children]
    .map(one => [one, one.getBoundingClientRect()])
    .filter(([_, box]) => box.width * box.height > 0);
  for (let i = 1; i < boxes.length; i++) {
    const [a, b] = [boxes[i - 1][1], boxes[i][1]];
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 1) found.push(boxes[i][0].outerHTML.slice(0, 80));
  }
}
for (const one of document.querySelectorAll("p, h1, h2, figcaption, td, th, dt, dd, summary, li")) {
  if (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline")
    found.push("runs over: " + one.outerHTML.slice(0, 80));
}
return found;
"""

# For each drawing the number of paths that have a length, its size on the page, and how many letters were drawn.
DRAWINGS = """
return [...document.querySelectorAll("svg")].map(one => {
  const box = one.getBoundingClientRect();
  const paths = [...one.querySelectorAll("path")].filter(path => path.getTotalLength() > 0);
  const lost = [...one.querySelectorAll("use")].filter(use => {
    const target = use.getAttribute("xlink:href") || use.getAttribute("href");
    return !one.querySelector(CSS.escape ? "#" + CSS.escape(target.slice(1)) : target);
  });
  return {paths: paths.length, width: box.width, height: box.height, lost: lost.length};
});
"""

# The least contrast of text with what lies behind it, as WCAG has it, and where; drawings lie on their own card.
CONTRAST = """
const channel = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
let least = [99, ""];
for (const one of document.body.querySelectorAll("*")) {
  if (one.closest("svg, script") || ![...one.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  if (one.getBoundingClientRect().width === 0) continue;
  let behind = one;
  while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const back = behind ? parse(getComputedStyle(behind).backgroundColor) : [255, 255, 255, 1];
  const [a, b] = [light(parse(getComputedStyle(one).color)), light(back)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < least[0]) least = [ratio, one.outerHTML.slice(0, 80)];
}
return least;
"""


def why_missing():
    """Why pages cannot be opened here; nothing where they can."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if lacking:
        return f"{' and '.join(lacking)} not installed (Debian: apt-get install chromium chromium-driver)"
    try:
        import selenium  # noqa: F401
    except ModuleNotFoundError:
        return "selenium is not installed"
    return ""


@contextlib.contextmanager
def opened():
    """A browser with an empty profile, which is removed afterwards."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield driver
        finally:
            driver.quit()


def show(driver, path, width, *, dark=False):
    """Open a page at a width, light or dark."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": scheme})
    driver.get(Path(path).resolve().as_uri())


def requests(driver):
    """Addresses that the pages shown so far asked for, but for the pages themselves."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [
        one["request"]["url"]
        for one in asked
        if one["documentURL"].startswith("file:") and not one["request"]["url"].startswith(("file:", "data:"))
    ]
