"""What axe-core finds on a page, by the rules of WCAG 2.1 A and AA: nothing."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


def violations(page: Page) -> list[str]:
    """A line for each rule that is broken: its name, how grave it is, and the first element."""
    found = Axe().run(page, options=_RULES).response["violations"]
    return [f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:160]}" for one in found]
