"""Compiled kernels for the tests: a toolchain, or a skip that says why there is none; a cache of their
own."""

import pytest

from lib.kernels.toolchain import NoCompiler, Toolchain, find_toolchain


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    try:
        return find_toolchain()
    except NoCompiler as error:
        pytest.skip(str(error))
