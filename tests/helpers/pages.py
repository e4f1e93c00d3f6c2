"""The code of a Markdown page, and what the page says that it prints."""

import contextlib
import io
import pathlib
import re


def examples(page: pathlib.Path) -> list[tuple[str, str]]:
    """(code, what the text block directly below it says that it prints, "" where there is none), in order."""
    text = page.read_text("utf-8")
    found = re.findall(r"```python\n(.*?)```\n(?:\n*```text\n(.*?)```)?", text, flags=re.DOTALL)
    assert len(found) == text.count("```python")
    return found


def check(page: pathlib.Path, count: int | None = None) -> dict:
    """Run the first `count` examples (None: all) in one namespace, from top to bottom, as a reader would type them.

    Each has to print what stands below it. Returns the namespace.
    """
    names: dict = {}
    for code, below in examples(page)[:count]:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, str(page), "exec"), names)
        assert out.getvalue() == below, f"of {page.name}:\n{code}"
    return names
