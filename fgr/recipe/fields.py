"""What the recipes' models share: frozen, no unknown keys; shares and weights as types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Strict(BaseModel):
    """A part of a recipe: it cannot be changed, and a key that it does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
