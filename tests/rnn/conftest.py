"""What tests of times need: a C compiler, since nothing else may be timed as compiled."""

import pytest

from lib.kernels.toolchain import NoCompiler, find_toolchain


@pytest.fixture(scope="session")
def compiler() -> None:
    """Skips a test, with the reason, where no C compiler works."""
    try:
        find_toolchain()
    except NoCompiler as error:
        pytest.skip(str(error))
