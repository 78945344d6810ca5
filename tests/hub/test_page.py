from __future__ import annotations

import re

import pytest

from stead.hub.page import FOLDER
from stead.model.change import UNDO_WORDS


async def test_the_page_is_open_but_tells_nothing(client):
    answer = await client.get("/", headers={"Authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "4711" not in answer.text
    for path, kind in (("/page.js", "text/javascript"), ("/page.css", "text/css")):
        got = await client.get(path, headers={"Authorization": ""})
        assert got.headers["content-type"].startswith(kind)
        again = await client.get(path, headers={"If-None-Match": got.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_nothing_inline_and_nothing_from_elsewhere():
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script[^>]*>[^<]", html) == []
    for name in ("index.html", "page.js", "page.css"):
        text = (FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|//cdn", text), name


@pytest.mark.parametrize(
    "word", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"]
)
def test_what_comes_from_outside_is_only_ever_text(word: str):
    assert word not in (FOLDER / "page.js").read_text()


def test_every_element_that_the_script_looks_for_is_there():
    html, script = ((FOLDER / name).read_text() for name in ("index.html", "page.js"))
    ids = set(re.findall(r'id="([\w-]+)"', html))
    wanted = set(re.findall(r"at\('([\w-]+)'\)", script)) | {f"n-{name}" for name in ("findings", "proposals", "runs")}
    assert wanted and wanted <= ids


def test_each_field_has_a_label():
    html = (FOLDER / "index.html").read_text()
    for field in re.findall(r"<input[^>]*>", html):
        if "hidden" in field:
            continue
        found = re.search(r'id="(\w+)"', field)
        assert (found and f'for="{found[1]}"' in html) or f"<label>{field}" in html, field


def test_the_page_says_why_something_was_put_back_in_the_words_of_the_command_line():
    script = (FOLDER / "page.js").read_text()
    for code, words in UNDO_WORDS.items():
        assert re.search(rf"'?{code}'?: '{words}'", script), code


def test_a_plan_shows_whom_else_it_touches():
    assert "step.note" in (FOLDER / "page.js").read_text()
