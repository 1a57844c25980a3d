"""Tests of ``posx.reporting.page``: browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from fixtures.corpora import child_environment
from fixtures.reported import (
    Node,
    made,  # noqa: F401 - a fixture
    page,  # noqa: F401
    root,  # noqa: F401
    runs,  # noqa: F401 - a fixture
    tables_of,
    tree_of,
)

torch.set_num_threads(1)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


DEAD = "--proxy-server=127.0.0.1:9"  # nothing listens there: a request that leaves the file fails


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that opens a page: what headless Chromium prints. Skipped where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser to look with: none of {', '.join(BROWSERS)} is installed")
    profile = tmp_path_factory.mktemp("browser")

    def run(page: Path, *flags: str) -> str:
        command = [found, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *flags]
        done = subprocess.run(
            [*command, page.as_uri()], capture_output=True, timeout=120, check=False,
            env=child_environment(HOME=str(profile)),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
        return done.stdout.decode("utf-8")

    return run


# A page in frames, so that one start of the browser answers all: frames cannot be narrower in a window of their own.
# Without allow-scripts a frame behaves like a browser without scripts; the measuring script is outside of it.
PROBE = """<!doctype html><meta charset="utf-8"><body style="margin:0"><script>
const page = %s;
const frame = (width, sandbox) => new Promise(done => {
  const one = document.createElement("iframe");
  one.setAttribute("sandbox", sandbox);
  one.style = `border:0;width:${width}px;height:900px`;
  one.onload = () => done(one); one.srcdoc = page; document.body.append(one);
});
const measure = one => {
  const d = one.contentDocument, w = one.contentWindow, all = s => [...d.querySelectorAll(s)];
  const within = d.documentElement.clientWidth, at = e => e.getBoundingClientRect();
  const scrolls = e => w.getComputedStyle(e).overflowX === "auto";
  const inside = e => { for (let p = e.parentElement; p; p = p.parentElement) if (scrolls(p)) return true; };
  const reach = e => at(e).left + (scrolls(e) ? at(e).width : Math.max(e.scrollWidth, at(e).width));
  const box = b => ({inner: b.scrollWidth, own: b.clientWidth, left: at(b).left, right: at(b).right,
                     scrolls: scrolls(b)});
  const pushed = b => {  // how far the first cells go when the table is scrolled to its end; the width its caption asks
    const parts = [...b.querySelectorAll("tr > :first-child")], lefts = () => parts.map(p => at(p).left);
    const around = w.getComputedStyle(b.querySelector("caption"));
    const caption = at(b.querySelector("caption > div")).width
                    + parseFloat(around.paddingLeft) + parseFloat(around.paddingRight);
    const before = lefts(); b.scrollLeft = 1e6;
    const by = b.scrollLeft, after = lefts(); b.scrollLeft = 0;
    return {by, caption, cells: parts.length, moved: Math.max(...after.map((left, n) => Math.abs(left - before[n])))};
  };
  return {
    width: w.innerWidth, within, page: d.documentElement.scrollWidth,
    scripted: d.querySelector("th.sortable") !== null,
    tables: all("table").map(t => ({rows: t.tBodies[0].rows.length, height: at(t).height})),
    boxes: all(".scroll").map(b => ({...box(b), ...pushed(b)})), figures: all("figure").map(box),
    images: all("img").map(i => [i.complete, i.naturalWidth, at(i).width]),
    outside: all("body *").filter(e => !inside(e) && !e.closest("details:not([open])") && reach(e) > within + 1)
                          .map(e => `${e.tagName} ${e.textContent.trim().slice(0, 40)}`),
    resources: w.performance.getEntriesByType("resource").map(r => r.name.slice(0, 60)),
  };
};
const sorted = one => [...one.contentDocument.querySelectorAll("table")].map(table => {
  const rows = () => [...table.tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent.trim()));
  const before = rows(), lines = () => table.querySelectorAll("tbody .section").length, drawn = lines();
  return {before, drawn, title: table.caption.querySelector("b").textContent,
    columns: [...table.tHead.rows[0].cells].map((head, n) => {
    const text = head.classList.contains("text"), name = head.textContent, orders = [];
    head.click(); orders.push([head.getAttribute("aria-sort"), rows()]);
    head.focus();
    const scrolled = ["Enter", " "].map(key => {
      const press = new one.contentWindow.KeyboardEvent("keydown", {key, bubbles: true, cancelable: true});
      const left = head.dispatchEvent(press);
      orders.push([head.getAttribute("aria-sort"), rows()]);
      return left;
    });
    const marked = table.querySelectorAll("[aria-sort]").length;
    return {name, text, orders, marked, scrolled, lines: lines(),
            focused: one.contentDocument.activeElement === head};
  })};
});
(async () => {
  const out = {};
  for (const width of [1280, 390]) {
    const one = await frame(width, "allow-same-origin");
    out[width] = measure(one);
    for (const d of one.contentDocument.querySelectorAll("details")) d.open = true;
    out[width].opened = measure(one); one.remove();
  }
  const one = await frame(1280, "allow-same-origin allow-scripts allow-modals");
  out.scripted = measure(one); out.sorted = sorted(one); one.remove();
  const result = document.createElement("pre"); result.id = "probe"; result.textContent = JSON.stringify(out);
  document.body.append(result);
})();
</script>"""


@pytest.fixture(scope="module")
def looked(page: Path, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was measured on the page at two widths without scripts, and with them."""
    text = json.dumps(page.read_text("utf-8")).replace("</", "<\\/").replace("<!--", "<\\!--")
    probe = tmp_path_factory.mktemp("probe") / "probe.html"
    probe.write_text(PROBE.replace("%s", text, 1), "utf-8")
    dom = browser(probe, DEAD, "--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom")
    found = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    (pre,) = tree_of(f"<!doctype html>{found[0]}").all("pre")
    return dict(json.loads(pre.text))


@pytest.mark.parametrize("width", ["1280", "390"])
def test_the_page_is_complete_without_scripts(looked: dict[str, Any], root: Node, width: str) -> None:
    seen = looked[width]
    assert seen["scripted"] is False
    assert seen["width"] == int(width)
    assert [t["rows"] for t in seen["tables"]] == [len(t.rows) for t in tables_of(root)]
    assert all(t["height"] > 20 * t["rows"] for t in seen["tables"])
    assert len(seen["images"]) == len(seen["figures"]) == 6
    for (complete, natural, shown), box in zip(seen["images"], seen["figures"], strict=True):
        assert complete
        assert natural > 100
        assert 0 <= box["left"] < box["right"] <= seen["within"]
        if width == "390":  # large enough to be read; the rest of it is scrolled to
            assert shown == 640
            assert box["scrolls"]
            assert box["inner"] >= 640 > box["own"] > 300
        else:
            assert 600 < shown <= box["own"]
            assert box["inner"] == box["own"]
    assert seen["resources"] == []


@pytest.mark.parametrize("width", ["1280", "390"])
def test_the_page_itself_never_scrolls_sideways(looked: dict[str, Any], width: str) -> None:
    """Wide tables and long commands scroll within their boxes; a label of 60 characters is wrapped."""
    seen = looked[width]
    for one in (seen, seen["opened"]):  # the latter with the commands and configs open
        assert one["outside"] == []
        assert one["page"] <= one["within"] <= int(width)
    for box in seen["boxes"]:
        assert box["scrolls"]
        assert 0 <= box["left"] < box["right"] <= seen["within"]
    if width == "390":
        assert any(box["inner"] > box["own"] for box in seen["boxes"])


def test_the_first_column_stays_visible_on_a_phone(looked: dict[str, Any]) -> None:
    """While the table is scrolled sideways."""
    wide = [box for box in looked["390"]["boxes"] if box["inner"] > box["own"]]
    assert len(wide) >= 4
    for box in wide:
        assert box["by"] == pytest.approx(box["inner"] - box["own"], abs=1)
        assert box["cells"] >= 3
        assert box["moved"] <= 1


@pytest.mark.parametrize("width", ["1280", "390"])
def test_a_caption_ends_within_its_box(looked: dict[str, Any], width: str) -> None:
    """Captions are wrapped to the width of the box, without its scrollbar."""
    over = [round(box["caption"] - box["own"], 1) for box in looked[width]["boxes"]]
    assert [by for by in over if by > 0.5] == [], "pixels too wide"


def number_in(text: str) -> float | None:
    """The number that a cell begins with: 1,234 or 22.5k or 64? or 1 min 15 s."""
    time = re.fullmatch(r"(?:(\d+) min )?(\d+) s", text)
    if time:
        return 60 * int(time[1] or 0) + int(time[2])
    found = re.match(r"([-+]?[\d,]+(?:\.\d+)?)([kM]?)(?![\w.])", text)
    return float(found[1].replace(",", "")) * {"": 1, "k": 1e3, "M": 1e6}[found[2]] if found else None


def test_tables_can_be_sorted(looked: dict[str, Any]) -> None:
    """Click, Enter and Space reverse the order. Numbers sort as numbers, cells without a number come last."""
    assert looked["scripted"]["scripted"] is True
    assert looked["scripted"]["resources"] == []
    assert len(looked["sorted"]) >= 6
    assert sum(table["drawn"] > 0 for table in looked["sorted"]) >= 3
    for table in looked["sorted"]:
        for place, column in enumerate(table["columns"]):
            where = f"{table['title']}, {column['name']}"
            assert [way for way, _ in column["orders"]] == ["ascending", "descending", "ascending"], where
            assert column["orders"][0][1] == column["orders"][2][1], where
            assert column["scrolled"] == [False, False], f"{where}: Space would scroll the page too"
            assert column["lines"] == 0, f"{where}: lines between the groups of another order"
            assert column["marked"] == 1, where
            assert column["focused"], where
            for way, rows in column["orders"]:
                assert Counter(map(tuple, rows)) == Counter(map(tuple, table["before"])), where
                check_order([row[place] for row in rows], way, column["text"] or column["name"] == "targets", where)


def check_order(texts: list[str], way: str, as_text: bool, where: str) -> None:
    numbers = [None if as_text else number_in(text) for text in texts]
    present = [n for n in numbers if n is not None]
    others = [text for text, n in zip(texts, numbers, strict=True) if n is None]
    assert numbers[: len(present)] == present, f"{where}: numbers come first, found {texts}"
    down = way == "descending"
    assert present == sorted(present, reverse=down), f"{where}, {way}: {texts}"
    assert others == sorted(others, reverse=down), f"{where}, {way}: {texts}"


def test_the_page_works_offline(page: Path, browser: Any) -> None:
    with_network = browser(page, "--dump-dom", "--virtual-time-budget=5000")
    without = browser(page, DEAD, "--dump-dom", "--virtual-time-budget=5000")
    assert with_network == without
    assert without.count("<table") == len(re.findall("<table", page.read_text("utf-8")))


def test_it_looks_the_same_without_scripts(page: Path, browser: Any, tmp_path: Path) -> None:
    """Chromium's own screenshots need scripts, so a policy in a copy of the page forbids the page its own.

    Not in a frame: a screenshot is taken once the outermost page is painted, and a frame without rights is painted by
    a process of its own, now and then too late.
    """
    bare = tmp_path / "bare.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
    bare.write_text(page.read_text("utf-8").replace("<head>", f"<head>{policy}", 1), "utf-8")

    def shot(of: Path) -> np.ndarray:
        path = tmp_path / f"{of.stem}.png"
        browser(of, "--window-size=1280,3000", "--hide-scrollbars", DEAD, f"--screenshot={path}")
        return np.asarray(matplotlib.image.imread(path))[..., :3]

    ran = [re.search(r'<th [^>]*class="[^"]*sortable"', browser(one, DEAD, "--dump-dom")) for one in (page, bare)]
    assert [found is not None for found in ran] == [True, False]
    with_scripts, without = shot(page), shot(bare)
    assert with_scripts.shape == without.shape
    assert without.shape[1] == 1280
    assert np.array_equal(with_scripts, without)
    assert (without.min(axis=-1) < 0.4).sum() > 20_000  # ink: text, tables and plots
