"""A server of weights that a test changes at will, and a model of the zoo whose sources are on it."""

import threading

import pytest
from weights_double import SHA256, WeightsServer


@pytest.fixture
def weights_server(monkeypatch, tmp_path):
    """A running server, the only Hub there is; weights go to a folder of the test's, and what breaks is tried again at once."""
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("fgr.downloads.PAUSE", 0.01)
    serving = WeightsServer()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", serving.address)
    template = serving.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture
def listed(weights_server, monkeypatch):
    """Puts a model 'net' into the table; a source that begins with / is an address of the server."""
    from fgr.sr import weights
    from fgr.sr.release import Release, WeightFile
    from fgr.sr.zoo import ZOO

    def put(*sources, sha256=SHA256):
        places = tuple(f"{weights_server.address}{source}" if source.startswith("/") else source for source in sources)
        release = Release("net", 4, "MIT", (WeightFile("net.pth", places, sha256),), "Compact")
        monkeypatch.setitem(ZOO, "net", release)
        return weights.folder() / "net.pth"

    return put
