"""Tests of the reward model write to no cache of the user's."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _offline():
    """Nothing here asks the Hub; for the modules of this folder alone, whatever is tested beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(own_cache):
    """Whether or not a test reads `data`."""
