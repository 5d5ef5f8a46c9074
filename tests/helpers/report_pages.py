"""Reads the pages of reports in a browser."""

from collections.abc import Callable

from playwright.sync_api import Page

Open = Callable[..., Page]
WIDE = 1400  # px


def column(opened: Page, name: str) -> list[str]:
    """The texts of a column of the table, in the order of its rows."""
    headings = opened.locator("#points-table thead tr:first-child th")
    names = [text.replace("\n", "") for text in headings.all_inner_texts()]
    return opened.locator(f"#points-table tbody tr td:nth-child({names.index(name) + 1})").all_inner_texts()


def number(text: str) -> float:
    """A number of the table."""
    return float(text.replace(",", ""))
