"""The documentation site: builds without a warning, describes every public name, asks no other host."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import speech2image

pytest.importorskip("mkdocstrings", reason="needs the extra docs")
ROOT = Path(__file__).parents[1]
FETCHED = re.compile(r"""<(script|img|iframe)[^>]* src=["']?(https?:)?//|<link[^>]*stylesheet[^>]*//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_api_page_describes_every_public_name(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    for name in speech2image.__all__:
        assert f'id="speech2image.{name}"' in page, name


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page
