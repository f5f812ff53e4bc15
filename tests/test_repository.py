"""The files that hosts and tools read (workflows, templates, hooks, citation): they parse and agree with the
project."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import speech2image

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(path: Path) -> dict:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict), path
    return found


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("path", sorted((GITHUB / "workflows").iterdir()), ids=lambda path: path.name)
def test_workflows_run_files_of_this_repository_with_few_permissions(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step), step
        if step.get("run", "").startswith("."):
            assert (ROOT / step["run"].split()[0]).stat().st_mode & 0o100, step
    for job in workflow["jobs"].values():
        assert "runs-on" in job or (ROOT / job["uses"]).is_file()


def test_the_test_workflow_has_every_python_that_the_package_states() -> None:
    stated = [name.rsplit(" ")[-1] for name in PROJECT["classifiers"] if " :: Python :: 3." in name]
    (setup,) = [
        step
        for step in steps(read(GITHUB / "workflows" / "test.yml"))
        if step.get("uses", "").startswith("actions/setup-python@")
    ]
    assert sorted(setup["with"]["python-version"].split()) == sorted(stated)


def test_issue_templates_are_forms_with_distinct_fields() -> None:
    forms = {path.stem: read(path) for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml")}
    forms.pop("config")
    assert set(forms) == {"bug", "feature", "model"}
    for form in forms.values():
        assert {"name", "description", "body"} <= set(form)
        fields = [item["id"] for item in form["body"] if item["type"] != "markdown"]
        assert len(fields) == len(set(fields))
        assert all("label" in item["attributes"] for item in form["body"] if item["type"] != "markdown")
    assert {"version", "platform", "recording"} <= {item.get("id") for item in forms["bug"]["body"]}


def test_dependabot_watches_actions_and_packages() -> None:
    watched = {update["package-ecosystem"] for update in read(GITHUB / "dependabot.yml")["updates"]}
    assert watched == {"github-actions", "pip"}


def test_hooks_are_local_and_run_installed_tools() -> None:
    hooks = [
        hook for repository in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]
    ]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy"}
    tools = {re.split("[>=<]", need)[0] for need in PROJECT["optional-dependencies"]["dev"]}
    assert {hook["entry"].split()[0] for hook in hooks} <= tools


def test_the_citation_agrees_with_the_package_and_the_readme() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == speech2image.__version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in PROJECT["authors"]
    ]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"title   = {{{citation['title']}}}" in readme
    assert f"version = {{{citation['version']}}}" in readme
    (paper,) = citation["references"]
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert authors in readme and f"{paper['start']}--{paper['end']}" in readme
