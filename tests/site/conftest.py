"""One headless browser for all tests of the site."""

from collections.abc import Iterator

import pytest
from browser import headless
from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with headless() as found:
        if found is None:
            pytest.skip("no Chromium; name one in CHROMIUM or run `.venv/bin/playwright install chromium`")
        yield found
