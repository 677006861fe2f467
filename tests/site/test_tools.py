"""What the site's tools do with docstrings, formulas and links."""

import pytest

docstrings = pytest.importorskip("docstrings", reason="no Sphinx: the site is not built here")
mathematics = pytest.importorskip("mathematics", reason="no Sphinx: the site is not built here")
site_pages = pytest.importorskip("site_pages", reason="no Sphinx: the site is not built here")


def test_docstrings_become_restructured_text():
    text = """The sum |x| * y of `names` in ``code * x``, and coefs_ of *args.

Shapes: `x` (batch, n).
Raises ValueError for others.

    table   as it is `here`

Parameters
----------
x, y : (n,), as they come
    A sentence of its own.
z : a thing that
    goes on
kind

Returns a number.

>>> 2 * 3
6"""
    assert (
        "\n".join(docstrings.tidy(text.split("\n"))).rstrip()
        == """\
The sum \\|x\\| \\* y of `names` in ``code * x``, and coefs\\_ of \\*args.

**Shapes:** `x` (batch, n).

**Raises** ValueError for others.

::

    table   as it is `here`

**Parameters**

- ``x, y``: (n,), as they come.
  A sentence of its own.
- ``z``: a thing that
  goes on

kind

**Returns** a number.

>>> 2 * 3
6"""
    )


def test_formulas_become_mathml():
    from docutils import nodes

    formula = mathematics.mathml(nodes.math_block("", r"\frac{a}{b}"), as_block=True)
    assert formula.startswith("<math") and "<mfrac>" in formula and 'display="block"' in formula
    with pytest.raises(mathematics.ExtensionError, match=r"in the formula \\nonsense"):
        mathematics.mathml(nodes.math("", r"\nonsense"), as_block=False)


def test_a_section_lists_its_pages_in_the_order_of_their_links(tmp_path):
    for name in "one", "two", "index":
        (tmp_path / f"{name}.md").touch()
    text = "[b](two.md), [elsewhere](../x/y.md), [a](one.md), [again](two.md), [none](three.md)"
    done = site_pages._with_contents(text, tmp_path / "index.md")
    assert done.startswith(text) and done.endswith("```{toctree}\n:hidden:\n\ntwo\none\n```\n")


class Environment:
    docname = "howto/page"


@pytest.mark.parametrize("path", ["../../examples/ppo.py", "../../examples"])
def test_a_link_to_a_file_of_the_repository_leads_to_its_page(path):
    env, page = Environment(), site_pages.DOCS / "howto/page.md"
    link = site_pages._LINK.sub(
        lambda found: site_pages._to_file(env, page, found), f"[it]({path})"
    )
    name = path.removeprefix("../../")
    assert link == f'<a class="reference internal" href="../files/{name}.html">it</a>'
    assert site_pages._shown(env) == {"howto/page": {name}}


def test_links_to_nothing_are_found_and_others_stay():
    env, page = Environment(), site_pages.DOCS / "howto/page.md"

    def linked(text):
        return site_pages._LINK.sub(lambda found: site_pages._to_file(env, page, found), text)

    for text in "[it](../guide/network.md#formula)", "[it](page.md)", "![it](../../no.png)":
        assert linked(text) == text
    for path in "../../examples/no.py", "../../../etc":
        with pytest.raises(site_pages.ExtensionError, match="which is no file of the repository"):
            linked(f"[it]({path})")
