"""Constraints that hold pip to the lowest versions which the base install allows."""

import tomllib
from pathlib import Path

project = Path(__file__).parents[1] / "pyproject.toml"
for dependency in tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]:
    print(dependency.split(",")[0].replace(">=", "=="))
