from typing import Annotated, Literal

import pydantic
import pytest

from fgr.recipe.fields import Strict
from fgr.recipe.mistakes import mistake_line


class Square(Strict):
    name: Literal["square"]
    side: int = 1


class Circle(Strict):
    name: Literal["circle"]
    radius: int = 1


class Drawing(Strict):
    shape: Annotated[Square | Circle, pydantic.Field(discriminator="name")]
    title: str = ""


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"shape": {"name": "square"}, "titel": "x"}, "titel – unknown key – did you mean 'title'? – 'x'"),
        ({"shape": {"name": "circle", "radus": 2}}, "shape.radus – unknown key – did you mean 'radius'? – 2"),
        ({"shape": {"name": "square", "side": "x"}}, "shape.side – Input should be a valid integer"),
        ({"shape": {"name": "hexagon"}}, "shape.name – must be one of 'square', 'circle' – 'hexagon'"),
        ({"shape": {"name": "square", "radius": 2}}, "shape.radius – a key of circle, not of square – 2"),
        ({}, "shape – Field required"),
    ],
)
def test_a_line_names_the_key_as_it_stands_in_the_recipe(tree, line):
    with pytest.raises(pydantic.ValidationError) as error:
        Drawing.model_validate(tree)
    assert [mistake_line(Drawing, one).startswith(line) for one in error.value.errors()] == [True]
