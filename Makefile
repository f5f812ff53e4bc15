# The commands CI runs. `make check` is all of them.
.PHONY: check lint types test coverage docs lock
check: lint types test
lint:
	ruff check .
	ruff format --check .
	lint-imports
types:
	mypy
test:
	pytest -q
# Not in `check`: which lines and branches of the package the tests reach.
coverage:
	coverage erase
	coverage run -m pytest -q
	coverage combine -q
	coverage report
# Needs the extra `docs`.
docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
# The newest versions of everything a developer installs, for each Python and platform.
lock:
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --constraints constraints.txt --extra dev --extra docs \
	  --custom-compile-command "make lock" --output-file requirements-dev.lock pyproject.toml
