# The commands CI runs. `make check` is all of them.
.PHONY: check lint types test docs
check: lint types test
lint:
	ruff check .
	ruff format --check .
	lint-imports
types:
	mypy
test:
	pytest -q
docs:  # needs the extra `docs`
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
