"""How many mutated inputs a property test tries: a few in `make test`, many in `make fuzz`."""

import os

LARGE = 100  # times the budget of `make test`


def examples(few: int) -> int:
    """The `max_examples` of a test marked `fuzz`."""
    return few * LARGE if os.environ.get("FGR_FUZZ") == "large" else few
