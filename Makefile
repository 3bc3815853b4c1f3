# `make demo` and `make test` set up by themselves; PYTHON picks the interpreter (3.11 or 3.12).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := dev,docs,offline,annotate,diffusion,onnx,app,ray
STAMP := $(VENV)/.installed

.PHONY: setup demo demo-train claims reward test fuzz check types rules clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 13), "fgr needs Python 3.11 or 3.12: make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib fgr bench || true  # pip has one core for that; files for other Pythons fail
	touch $@

demo: setup
	$(BIN)/fgr models dat-light span --fetch
	$(BIN)/fgr generate demo --out out/demo
	$(BIN)/fgr verify out/demo --replay 2
	$(BIN)/fgr report out/demo

# A restored photograph that neither model saw in training, beside its reference
define RESTORED
import pathlib, fgr
from PIL import Image
row = next(row for row in fgr.load_samples("out/demo", "test") if row["model"] == "realsr")
folder = pathlib.Path("out/restored")
folder.mkdir(exist_ok=True)
for name in ("reference", "sr"):
    Image.fromarray(row[name]).save(folder / f"{name}.png")
endef
export RESTORED

demo-train: demo
	$(BIN)/fgr train-rm demo --data out/demo --out out/rm
	$(BIN)/fgr evaluate --reward out/rm --data out/demo
	$(BIN)/python -c "$$RESTORED"
	$(BIN)/fgr score out/restored/reference.png out/restored/sr.png --reward out/rm --maps out/restored/maps
	$(BIN)/fgr report out/rm

# The paper's three claims, tested: make claims SOURCE=photographs [TIER=cpu|night|gpu] [OUT=out/claims]; an hour, a night, 10 minutes
TIER ?= cpu
OUT ?= out/claims
claims: setup
	@test -n "$(SOURCE)" || { echo 'name a folder of photographs: make claims SOURCE=photos' >&2; exit 2; }
	$(BIN)/python -m bench.claims run $(SOURCE) --tier $(TIER) --out $(OUT)

# The reward model that ships, trained anew and compared with it: make reward [PHOTOGRAPHS=folder]
reward: setup
	$(BIN)/fgr models dat-light span --fetch
	$(BIN)/python -m bench.fgr_lite $(if $(PHOTOGRAPHS),--source $(PHOTOGRAPHS))

# A process a core, of 2 GB each and so two at most; the tests of a file share what they set up. In their own order: files with few
# tests, which xdist would leave to the end, are the slowest. WORKERS=0: in one process
WORKERS ?= logical
test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 2 --dist loadfile --no-loadscope-reorder

# The property tests of hostile inputs with a hundred times their budget in `make test`.
fuzz: setup
	FGR_FUZZ=large $(BIN)/python -m pytest -m fuzz --timeout 0

check: setup
	$(MAKE) --jobs 2 types rules

types: setup
	$(BIN)/mypy

rules: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --quiet tests/test_imports.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis
