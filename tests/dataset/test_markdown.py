"""Text from outside in cards: neither Markdown nor HTML nor YAML is read in it."""

import pytest
import yaml

from fgr.dataset import markdown

HOSTILE = "![x](http://a/b) <script>alert(1)</script> | `c` **d**\n# e [f](javascript:g) \x1b[31m \u202e"


def test_text_is_shown_as_text():
    from markdown_it import MarkdownIt

    page = MarkdownIt("commonmark").enable("table").render(f"| a |\n|---|\n| {markdown.text(HOSTILE)} |\n")
    assert page.count("<td>") == 1
    for sign in ("<script", "<img", "<a ", "<strong", "<h1", "<code", "\x1b", "\u202e"):
        assert sign not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | `c` **d**" in page


def test_plain_names_stay_readable():
    assert markdown.text("CC-BY-4.0, realesr_animevideov3 by Jürgen (2020)") == "CC-BY-4.0, realesr_animevideov3 by Jürgen (2020)"


def test_code_stays_between_its_backticks():
    assert markdown.code("a`b|c\nd") == "a'b¦c\\nd"


def test_a_fence_is_longer_than_what_it_holds():
    assert markdown.fence("a: 1") == "```"
    assert markdown.fence("````\n") == "`````"


@pytest.mark.parametrize("value", ["apache-2.0", "other\nmalicious: true", "a: b", "- x", "\x1b", "null", "{a}"])
def test_front_matter_is_one_value(value):
    assert list(yaml.safe_load(f"license: {markdown.scalar(value)}\nb: 1\n")) == ["license", "b"]


def test_the_card_escapes_what_the_rows_and_models_say(tiny, tmp_path):
    import json
    import shutil

    from fgr.dataset import card, tables

    copy = shutil.copytree(tiny, tmp_path / "tiny")
    for shard in tables.shards(copy, "samples"):
        tables.write_table(shard, "samples", [row | {"license": HOSTILE} for row in tables.read_shard(shard)])
    recorded = json.loads((copy / "fgr.json").read_text())
    recorded["models"][0]["license"] = "</td><script>"
    recorded["recipe"]["source"]["path"] = "x`\n```\n# y"
    (copy / "fgr.json").write_text(json.dumps(recorded))
    card.write(copy)
    text = (copy / "README.md").read_text()
    for sign in ("<script", "![x]", "**d**", "\x1b", "\u202e", "\n```\n# y"):
        assert sign not in text
    assert list(yaml.safe_load(text.split("---\n")[1]))
