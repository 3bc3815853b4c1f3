"""The team server's compose file: pinned, without default secrets, and with no setting that Label Studio does not know."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from fgr.shipped import shipped

SECRET = ("PASSWORD", "SECRET_KEY", "USERNAME", "HOST")


@pytest.fixture(scope="module")
def services():
    tree = yaml.safe_load(shipped("annotation").joinpath("compose.yaml").read_text(encoding="utf-8"))
    assert tree["volumes"].keys() == {"files", "database"}
    return tree["services"]


def test_images_are_pinned_and_data_is_kept(services):
    assert services.keys() == {"web", "app", "db"}
    for name, service in services.items():
        assert re.search(r":\d+\.\d+(\.\d+)?(-alpine)?$", service["image"]), name
        assert service["volumes"]
        assert service["restart"] == "unless-stopped"
    assert services["db"]["image"].startswith("postgres:")
    assert services["app"]["depends_on"]["db"] == {"condition": "service_healthy"}
    assert [port.rpartition(":")[2] for port in services["web"]["ports"]] == ["8085"]
    assert all(port.startswith("127.0.0.1:") for port in services["web"]["ports"])
    assert "ports" not in services["db"]
    assert "ports" not in services["app"]


def test_secrets_have_no_default_and_no_value(services):
    given = [(name, value) for service in services.values() for name, value in service.get("environment", {}).items()]
    secret = [(name, value) for name, value in given if any(word in name for word in SECRET) and value != "db"]
    assert len(secret) >= 7
    for name, value in secret:
        assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), f"{name} comes from the environment, or the start is refused"


def test_the_two_sides_mean_the_same_database(services):
    app, db = services["app"]["environment"], services["db"]["environment"]
    assert (app["POSTGRE_NAME"], app["POSTGRE_USER"]) == (db["POSTGRES_DB"], db["POSTGRES_USER"])
    assert app["POSTGRE_PASSWORD"] == db["POSTGRES_PASSWORD"]
    assert app["POSTGRE_HOST"] in services


def test_label_studio_reads_every_setting(services):
    found = find_spec("label_studio")
    if found is None:
        pytest.skip("label-studio is not installed: pip install 'fgr[annotate]'")
    folder = Path(found.origin).parent
    files = [*(folder / "core").rglob("*.py"), folder / "server.py", folder / "tasks" / "serializers.py"]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    for name in services["app"]["environment"]:
        assert re.search(rf"['\"]({name}|{name.removeprefix('LABEL_STUDIO_')})['\"]", source), name


def test_everything_is_off_that_would_call_home(services):
    app = services["app"]["environment"]
    off = ("COLLECT_ANALYTICS", "LATEST_VERSION_CHECK", "SENTRY_DSN", "FRONTEND_SENTRY_DSN")
    assert [app[f"LABEL_STUDIO_{name}"] for name in off] == ["false", "false", "", ""]
