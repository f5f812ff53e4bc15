# The commands CI runs. `make check` is all of them.
.PHONY: check lint types test
check: lint types test
lint:
	ruff check .
	ruff format --check .
	lint-imports
types:
	mypy
test:
	pytest -q
