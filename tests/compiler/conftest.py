"""Fixtures of the tests of compiled steps."""

from __future__ import annotations

import pytest
from compiler.steps import BUILDERS

import backstory


@pytest.fixture(params=BUILDERS)
def compiled(request):
    """``backstory.compile``, with each builder of programs."""
    return lambda function, **options: backstory.compile(function, build=BUILDERS[request.param], **options)
