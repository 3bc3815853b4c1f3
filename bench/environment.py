"""What a benchmark's figures depend on: hardware, versions, commit, date."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe(*packages: str) -> str:
    """One line for the results file."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    ).stdout.strip()
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    day = datetime.date.today().isoformat()
    machine = f"{_cpu()} ({os.cpu_count()} cores)"
    return f"{day} · {machine} · Python {platform.python_version()}, {versions} · commit {commit or 'unknown'}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
