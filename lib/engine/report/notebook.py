"""An executed notebook as a fragment of HTML that needs nothing from outside: formulas become MathML."""

from pathlib import Path
from typing import Any

CODE_STYLES = {"light": "default", "dark": "github-dark"}


def notebook_html(path: Path) -> str | None:
    """The notebook at `path` as HTML without head or body; None when there is no readable notebook."""
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError):
        return None
    fragment, _ = _exporter().from_notebook_node(notebook)
    return str(fragment)


def code_css() -> str:
    """Colours of highlighted code, for light and dark screens."""
    from pygments.formatters import HtmlFormatter

    light, dark = (
        HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight")
        for style in (CODE_STYLES["light"], CODE_STYLES["dark"])
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def mathml(formula: str, block: bool) -> str:
    """TeX as MathML; TeX that cannot be converted is shown as it is."""
    from html import escape

    from latex2mathml import exceptions
    from latex2mathml.converter import convert

    own = (kind for kind in vars(exceptions).values() if isinstance(kind, type))
    unreadable: tuple[type[Exception], ...] = (IndexError, KeyError, ValueError, *own)
    # The converter knows `split` but not `aligned`, which means the same.
    known = formula.replace("{aligned}", "{split}")
    try:
        return str(convert(known, display="block" if block else "inline"))
    except unreadable:
        return f'<code class="tex">{escape(formula)}</code>'


def _exporter() -> Any:
    """nbconvert's exporter whose Markdown cells hold MathML in place of TeX."""
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return mathml(body, block=True)

        def inline_math(self, body: str) -> str:
            return mathml(body, block=False)

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

    def markdown(source: str) -> str:
        renderer = Renderer(escape=False, exclude_anchor_links=True)
        return str(MarkdownWithMath(renderer=renderer).render(source))

    exporter = HTMLExporter(template_name="basic")
    exporter.register_filter("markdown2html", markdown)
    return exporter
