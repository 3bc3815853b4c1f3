"""Tests of the reward model write to no cache of the user's."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(own_cache):
    """Whether or not a test reads `data`."""
