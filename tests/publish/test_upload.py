"""What the Hub would refuse is refused before anything is sent."""

import pytest

from fgr.errors import UserError
from fgr.publish import upload


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "-a/b", "a/b--c", "a/b.git", "a b/c", "../x"])
def test_names_the_hub_would_refuse(name):
    with pytest.raises(UserError, match="ORG/NAME"):
        upload.check_name(name)
