"""What the site does to its pages: equations from the SymPy objects, sections and help texts from where they are kept.

Hooks of MkDocs (``mkdocs.yml``). Three kinds of fenced blocks are filled in before Markdown sees them:

``python equation``   run; the value of its last line, LaTeX or a SymPy expression, becomes a displayed equation with the
                      block folded below. Blocks of one page share their names.
``text help``         the line names a command, such as solvers.predict: its ``--help``.
``text section``      the line names a file of the repository and one of its headings, FILE # HEADING: that section; without
                      a heading the whole file as it is.

Formulas between dollars become MathML here, so that a page needs no script for them; a page that would load anything
from elsewhere fails the build.
"""

import ast
import html
import importlib
import re
from pathlib import Path
from typing import Any

import sympy as sp

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(python equation|text help|text section)\n(.*?)^```$", re.M | re.S)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)
BAR = '<mo stretchy="false">&#x0007C;</mo>'  # of an absolute value: set tight, not as an operator
# What a browser fetches by itself; <a href> waits for a click.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object|link)\b[^>]*?\b(?:src|srcset|href|data)=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|(?:url\(|@import\s)[\"']?((?:https?:)?//[^\"')\s]+)",
    re.I,
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the three kinds of blocks."""
    names: dict[str, Any] = {}
    return BLOCK.sub(lambda block: _filled(block[1], block[2], names), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Set formulas as MathML."""
    return FORMULA.sub(lambda m: mathml(html.unescape(m[3]), display=m[2] == "["), content)


def on_post_build(config: Any, **_: Any) -> None:
    """Refuse a site that asks anyone for anything."""
    for path in Path(config["site_dir"]).rglob("*"):
        if path.suffix in (".html", ".css") and (found := loaded_from_elsewhere(path.read_text(encoding="utf-8"))):
            raise ValueError(f"{path.relative_to(config['site_dir'])} loads {', '.join(found)}")


def loaded_from_elsewhere(text: str) -> list[str]:
    """Addresses on other machines from which a page or a style sheet loads something when it is shown."""
    return sorted({here or there for here, there in LOADED.findall(text)} - {""})


def mathml(latex: str, *, display: bool) -> str:
    """One formula; a wide one scrolls in its own box."""
    from latex2mathml.converter import convert

    formula = convert(latex.strip().replace("{aligned}", "{align*}"), display="block" if display else "inline")
    formula = formula.replace(BAR, BAR.replace("<mo", '<mo lspace="0" rspace="0"'))
    return f'<div class="equation">{formula}</div>' if display else formula


def equation(code: str, names: dict[str, Any]) -> str:
    """LaTeX of the last line of ``code``, which is run with ``names`` and leaves its own there."""
    tree = ast.parse(code)
    last = tree.body.pop()
    if not isinstance(last, ast.Expr):
        raise ValueError(f"an equation block ends in an expression, got: {ast.unparse(last)}")
    exec(compile(tree, "equation", "exec"), names)  # noqa: S102 - pages are part of the package
    value = eval(compile(ast.Expression(last.value), "equation", "eval"), names)  # noqa: S307
    return value if isinstance(value, str) else str(sp.latex(value))


def help_of(program: str) -> str:
    """``--help`` of a command."""
    return str(importlib.import_module(program).make_parser().format_help())


def section(file: str, heading: str) -> str:
    """A section of a file of the repository, without its heading."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.M | re.S)
    if found is None:
        raise ValueError(f"{file} has no section {heading!r}")
    return found[2].strip()


def _filled(kind: str, body: str, names: dict[str, Any]) -> str:
    body = body.strip("\n")
    if kind == "text help":
        return f"```text\n{help_of(body.strip())}```"
    if kind == "text section":
        file, *heading = (word.strip() for word in body.split("#", 1))
        return section(file, *heading) if heading else f"```yaml\n{(ROOT / file).read_text(encoding='utf-8')}```"
    folded = "\n".join("    " + line for line in ["```python", *body.splitlines(), "```"])
    return f'$$\n{equation(body, names)}\n$$\n\n??? quote "the code of this equation"\n\n{folded}'
