import pytest

from fgr.errors import UserError
from fgr.reward.encoder import build_encoder


def test_a_misspelt_encoder_names_its_neighbour():
    with pytest.raises(UserError, match="did you mean 'resnet50_clip'"):
        build_encoder("resnet50_clp")
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        build_encoder("tinny")
