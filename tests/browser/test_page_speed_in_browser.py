"""The page answers at once: five times what it takes, so that a busy machine passes and another order does not."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from benchmarks.page import dragged, random_snapshot
from cltools.explorer.standalone import page_of
from cltools.explorer.state import first_state

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("points", "step"), [(1500, 8), (20000, 60)])
def test_an_edge_that_is_dragged_is_followed(
    browser: Browser, tmp_path: Path, undisturbed: Callable[[], AbstractContextManager[None]], points: int, step: float
) -> None:
    snapshot, file = random_snapshot(points), tmp_path / "page.html"
    file.write_text(page_of([snapshot], first_state(snapshot)), encoding="utf-8")
    with undisturbed():
        taken = dragged(browser, file, 1, 2.0)
    assert len(taken["compute"]) > 10 and len(taken["draw"]) > 10, "the edge was dragged"
    assert np.median(taken["step"]) <= 5 * step
    if points == 1500:
        assert np.median(taken["frame"]) <= 5 * 25 and np.percentile(taken["frame"], 95) <= 5 * 50
