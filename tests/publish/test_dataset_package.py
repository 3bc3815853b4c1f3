import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
from hub_double import serving

from fgr.dataset import manifest, tables
from fgr.errors import UserError
from fgr.publish import run
from fgr.publish.package import Consent

NAME = "acme/tiny"


@pytest.fixture(scope="module")
def hub():
    with serving() as hub:
        yield hub


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "tiny")


def environment(hub, home):
    keys = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    return os.environ | keys | {"HF_HOME": str(home), "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def publish(hub, home, *arguments):
    command = [sys.executable, "-m", "fgr", "publish", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(hub, home), check=False)


def test_a_dataset_goes_up_resumes_changes_and_loads_byte_for_byte(hub, folder, tmp_path):
    hub.fail["PUT /lfs/"] = 1
    broken = publish(hub, tmp_path, folder, NAME)
    assert broken.returncode == 1
    assert "Run the same command again" in broken.stderr or "write access" in broken.stderr
    assert "Traceback" not in broken.stderr
    first = hub.received
    shards = [file for table in ("samples",) for file in tables.shards(folder, table)]
    whole = sum(file.stat().st_size for file in shards)
    assert first < whole

    done = publish(hub, tmp_path, folder, NAME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.url}/datasets/{NAME}"
    assert "checking" not in done.stderr  # the first run had done that
    assert hub.received == whole  # nothing that had arrived was sent again
    assert hub.repositories[NAME].private
    assert f'load_dataset("{NAME}", "samples"' in (folder / "README.md").read_text()

    again = publish(hub, tmp_path, folder, NAME)
    assert "Everything was there already." in again.stderr
    assert hub.received == whole

    script = """
import hashlib, sys
from datasets import Image, load_dataset
name, split = sys.argv[1:]
for streaming in (False, True):
    rows = load_dataset(name, "samples", split=split, streaming=streaming)
    assert rows[0]["composite"].size == (128, 128) if not streaming else next(iter(rows))["mask"].mode == "L"
    for column in ("reference", "sr", "composite", "mask", "degradation_map"):
        rows = rows.cast_column(column, Image(decode=False))
    digest = hashlib.sha256()
    for row in rows:
        digest.update("".join([row["id"], row["model"], repr(row["score"])]).encode())
        for column in ("reference", "sr", "composite", "mask", "degradation_map"):
            digest.update(row[column]["bytes"])
    print(digest.hexdigest())
"""
    loaded = subprocess.run(
        [sys.executable, "-c", script, NAME, "test"], capture_output=True, text=True, env=environment(hub, tmp_path), check=False
    )
    assert loaded.stdout.split() == [digest_of(folder, "test")] * 2, loaded.stderr

    remote = hub.repositories[NAME].at("main")[1]
    assert set(remote) == {".gitattributes", "README.md", "fgr.json", *(f"samples/{file.name}" for file in shards)}
    for path, entry in remote.items():
        if path != ".gitattributes":
            assert hub.blobs[entry.lfs or entry.oid] == (folder / path).read_bytes()
    log = broken.stderr + done.stderr + done.stdout + again.stderr
    assert "hf_secret" not in log
    assert "Bearer hf_secret" in hub.tokens


def digest_of(folder, split):
    digest = hashlib.sha256()
    for row in tables.read_rows(folder, "samples", split=split):
        digest.update("".join([row["id"], row["model"], repr(row["score"])]).encode())
        for column in ("reference", "sr", "composite", "mask", "degradation_map"):
            digest.update(row[column])
    return digest.hexdigest()


PHOTOS = """
import sys
from fgr.generate.sources import open_source

photos = list(open_source(sys.argv[1], license="x", attribution="").photos)
print(len(photos), len({photo.read() for photo in photos}), sorted({photo.license for photo in photos}))
"""


def test_a_dataset_on_the_hub_is_a_source_of_photographs(hub, folder, tmp_path):
    assert publish(hub, tmp_path, folder, "acme/photos").returncode == 0
    rows = list(tables.read_rows(folder, "samples", ["reference", "license"], "test"))
    command = [sys.executable, "-c", PHOTOS, "acme/photos:samples/test"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(hub, tmp_path), check=False)
    assert done.returncode == 0, done.stderr
    licences = sorted({row["license"] for row in rows})
    assert done.stdout.strip() == f"{len(rows)} {len({row['reference'] for row in rows})} {licences}"


def test_shards_of_an_older_plan_go(hub, folder, tmp_path):
    assert publish(hub, tmp_path, folder, "acme/replanned").returncode == 0
    repository = hub.repositories["acme/replanned"]
    tree = repository.at("main")[1]
    old = next(path for path in tree if path.startswith("samples/train"))
    repository.commit(
        "an older plan", {**tree, "samples/train-00007-of-00009.parquet": tree[old], "notes.txt": tree["README.md"]}
    )
    assert publish(hub, tmp_path, folder, "acme/replanned").returncode == 0
    assert set(repository.at("main")[1]) == {*tree, "notes.txt"}


def test_a_dry_run_lists_and_changes_nothing(hub, folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    asked = len(hub.log)
    done = publish(hub, tmp_path, folder, "acme/dry", "--dry-run")
    assert done.returncode == 0, done.stderr
    files, _, card = done.stdout.partition("\n\n")
    listed = [line.split()[1] for line in files.splitlines()]
    assert card.startswith("---\n")
    assert 'load_dataset("acme/dry", "samples"' in card
    assert listed[:2] == ["README.md", "fgr.json"]
    assert len(listed) == 2 + len(tables.shards(folder, "samples"))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".verified"} == before
    assert len(hub.log) == asked


def test_what_is_already_public_is_not_taken_for_private(hub, folder, tmp_path):
    done = publish(hub, tmp_path, folder, "acme/open", "--public")
    assert done.returncode == 0, done.stderr
    assert not hub.repositories["acme/open"].private
    refused = publish(hub, tmp_path, folder, "acme/open")
    assert refused.returncode == 1
    assert "exists and is public" in refused.stderr


def test_owners_secrets_and_reports_stay_at_home(folder):
    (folder / ".annotate").mkdir()
    (folder / ".annotate" / "plan.json").write_text("salt")
    (folder / "report.html").write_text("page")
    package = run.pack(folder, NAME, Consent(), write=False)
    assert all(file in ("README.md", "fgr.json") or file.startswith("samples/") for file in package.files)


def test_a_broken_promise_is_not_published(folder):
    shard = tables.shards(folder, "samples")[0]
    good = shard.read_bytes()
    shard.write_bytes(good[:-10])
    with pytest.raises(UserError, match="damaged or cut off"):
        run.pack(folder, NAME, Consent(), write=True)
    shard.write_bytes(good)
    rows = list(tables.read_rows(folder, "samples", split="test"))
    tables.write_table(tables.shards(folder, "samples", "test")[0], "samples", [row | {"score": 2.0} for row in rows])
    with pytest.raises(UserError, match=r"breaks \d+ promises"):
        run.pack(folder, NAME, Consent(), write=True)


def relicensed(folder, **changes):
    made = manifest.read(folder)
    made["models"][0] |= changes
    manifest.write(folder, made)


def test_terms_that_forbid_it_are_kept(folder):
    relicensed(folder, redistribute=False)
    with pytest.raises(UserError, match="forbids passing on images"):
        run.pack(folder, NAME, Consent(vouched=True, non_commercial=True), write=False)
    relicensed(folder, redistribute=False, license="S-Lab-1.0")
    with pytest.raises(UserError, match="add --non-commercial"):
        run.pack(folder, NAME, Consent(vouched=True), write=False)
    assert run.pack(folder, NAME, Consent(non_commercial=True), write=True).files
    text = (folder / "README.md").read_text()
    assert "license_name: per-sample-non-commercial" in text
    assert "**For non-commercial use only**" in text


def test_unknown_terms_need_a_word_before_they_are_public(folder):
    relicensed(folder, license="unknown", redistribute=None)
    assert run.pack(folder, NAME, Consent(), write=False).warnings
    with pytest.raises(UserError, match="they would be public"):
        run.pack(folder, NAME, Consent(public=True), write=False)
    assert run.pack(folder, NAME, Consent(public=True, vouched=True), write=False)


def test_refusals_are_sentences(hub, folder, tmp_path):
    hub.fail["POST /api/repos/create"] = 1
    done = publish(hub, tmp_path, folder, "other/tiny")
    assert done.returncode == 1
    assert "You do not have write access to other/tiny" in done.stderr
    offline = subprocess.run(
        [sys.executable, "-m", "fgr", "publish", str(folder), NAME], capture_output=True, text=True,
        env=environment(hub, tmp_path) | {"HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    closed = subprocess.run(
        [sys.executable, "-m", "fgr", "publish", str(folder), NAME], capture_output=True, text=True,
        env=environment(hub, tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}, check=False,
    )  # fmt: skip
    assert closed.returncode == 1
    assert "was interrupted" in closed.stderr
    assert json.loads((folder / "fgr.json").read_text())
