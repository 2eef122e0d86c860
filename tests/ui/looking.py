"""What is looked for on every page: nothing overlaps or is cut, axe-core finds nothing serious; and its picture."""

from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from tests.ui.conftest import NARROW, PICTURES, WIDE

_UNTIDY = """() => {
  const wrong = [], boxes = [];
  const said = (e) => e.tagName + ' ' + e.textContent.trim().slice(0, 40);
  const scrolls = (e) => e.closest('.scroll, pre, .paper, .bar nav, textarea');
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) wrong.push(`the page is ${wide} px wider than the window`);
  for (const e of document.querySelectorAll('main *, header *')) {
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (!e.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true})) continue;
    if (e.closest('.skip, svg, [hidden], .unseen')) continue;
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !box.width || !box.height || box.right < 0) continue;
    if (!scrolls(e) && (box.right > innerWidth + 1 || box.left < -1)) wrong.push('outside: ' + said(e));
    if (style.overflowX === 'hidden' && e.scrollWidth > e.clientWidth + 1) wrong.push('cut: ' + said(e));
    if (style.display !== 'inline' && !scrolls(e)) boxes.push([e, box]);
  }
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, p] = boxes[i], [b, q] = boxes[j];
    if (a.contains(b) || b.contains(a)) continue;
    const x = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const y = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (x > 2 && y > 2) wrong.push(`overlap: ${said(a)} / ${said(b)}`);
  }
  return wrong.slice(0, 10);
}"""


async def untidy(page: Page) -> list[str]:
    """What is cut, lies outside the window, or lies over something else."""
    found: list[str] = await page.evaluate(_UNTIDY)
    return found


_EVERYTHING: dict[str, Any] = {"resultTypes": ["violations"]}
_COLOURS: dict[str, Any] = {**_EVERYTHING, "runOnly": {"type": "rule", "values": ["color-contrast"]}}
"""axe-core's rule that looks at them; no other one goes by the scheme."""


async def inaccessible(page: Page, what: dict[str, Any]) -> list[str]:
    """What axe-core takes for serious or critical, WCAG 2.2 AA's contrast among it."""
    results: Any = (await Axe().run(page, options=what)).response
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in results["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


async def seen(page: Page, name: str) -> list[str]:
    """Look at a page in both widths and both schemes, keep the pictures, and say what is wrong with it."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    wrong = []
    for width, height in (WIDE, NARROW):
        await page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            where = f"{name} {width} {scheme}"
            found = []
            if scheme == "light":  # places are the same in both schemes, and colours in both widths
                found = [*await untidy(page), *await inaccessible(page, _EVERYTHING)]
            elif width == WIDE[0]:
                found = await inaccessible(page, _COLOURS)
            wrong += [f"{where}: {one}" for one in found]
            await page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png", full_page=True)
    await page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    await page.emulate_media(color_scheme="light")
    return wrong
