"""Recipes that would never end or fill the memory, and mutated ones: a recipe, or a sentence at once."""

import contextlib
import time

import pytest
from fuzz_budget import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fgr import recipe
from fgr.errors import UserError
from fgr.recipe import reading

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join(['*' + before] * 9)}]\n" for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
SHIPPED = {kind: recipe.find(recipe.main_recipe(kind), kind).read_text(encoding="utf-8") for kind in recipe.KINDS}
ODD = ["&a [*a]", "[[[[", "!!binary aGk=", "9" * 5000, ".nan", "-.inf", "1:59:59", "2020-99-99", "~", "{}", "[]", "''", "<<: 3",
       "!!set {a, b}",
       '"\\0"', '"\\ud800"', "? [1]\n: 2", "0x" + "f" * 5000, "1e999999", "true", "\t", "---", "%YAML 9.9"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "more than 10000 keys and values, aliases written out"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested more than 32 levels deep"),
        ("\n".join(" " * depth + "a:" for depth in range(900)), "nested more than 32 levels deep"),
        ("samples: " + "9" * 5000, "a value in it is impossible .*4300"),
        ("samples: 0x" + "f" * 5000, "the value of 'samples' is a number of 20000 bits"),
        ("samples: 1" + ":59" * 2000, "is a number of"),
        ("seed: 99999999999999999999", "the value of 'seed' is a number of 67 bits, more than 63"),
        ("a: &a [*a]", "its alias \\*a holds itself"),
        ("a: 2020-99-99", "a value in it is impossible"),
        ('source: {path: "\\ud800"}', "the value of 'source.path' holds characters that no text has"),
        ('source: {path: "a\\0b"}', "the value of 'source.path' holds characters that no text has"),
        ("a" * 2_000_000, "more than 1000 kB"),
        ("".join(f"k{i}: 1\n" for i in range(4000)), "has 4002 mistakes.*\n(.*\n){40}.* and 3962 more$"),
    ],
)  # fmt: skip
def test_what_no_recipe_needs_is_a_sentence_at_once(tmp_path, text, says):
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(UserError, match=says) as raised:
        recipe.load(tmp_path / "r.yaml", "generate")
    assert time.process_time() - began < 5
    assert len(str(raised.value)) < 8000


@pytest.mark.parametrize("value", [BOMB, "[" * 3000, "9" * 5000, "&a [*a]", ".nan", ".inf", "9" * 30])
def test_overrides_obey_the_same_limits(value):
    with pytest.raises(UserError) as raised:
        recipe.load("demo", "generate", [f"map.alpha={value}"])
    assert len(str(raised.value)) < 1000


def test_short_aliases_serve(tmp_path):
    (tmp_path / "r.yaml").write_text("a: &a {x: 1}\nb: *a\n")
    assert reading.read(tmp_path / "r.yaml") == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.fuzz
@given(st.data(), st.sampled_from(sorted(SHIPPED)))
@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_recipe_is_a_recipe_or_a_sentence(tmp_path, data, kind):
    lines = SHIPPED[kind].splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        number = data.draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[number].partition(":")
        odd = data.draw(st.sampled_from(ODD) | st.text(max_size=12))
        lines[number] = data.draw(st.sampled_from([f"{key}{colon} {odd}", f"{odd}: {key}", odd, lines[number] * 3, ""]))
    (tmp_path / "r.yaml").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    began = time.process_time()
    with contextlib.suppress(UserError):
        made = recipe.load(tmp_path / "r.yaml", kind)
        assert recipe.digest(made) == recipe.digest(recipe.resolved(made))
    assert time.process_time() - began < 20


def test_as_many_samples_as_fit_into_no_memory_are_refused():
    with pytest.raises(UserError, match="samples – Input should be less than or equal to 10000000 – 1000000000000000"):
        recipe.load("demo", "generate", ["samples=1_000_000_000_000_000"])


def test_names_that_are_no_text_are_refused_before_they_are_written_down():
    with pytest.raises(UserError, match=r"The value of source\.path is not UTF-8 text: a\\udcffb\."):
        recipe.load("demo", "generate", [], {"source.path": "a\udcffb"})
    with pytest.raises(UserError, match=r"The value of models is not UTF-8 text"):
        recipe.load("demo", "generate", [], {"models": ["bicubic", "folder:\udcff"]})
