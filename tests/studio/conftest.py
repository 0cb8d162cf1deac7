"""What tests of the app share: the page, built once, for `tests.support.pressed`."""

import pytest


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """The whole page, as an empty home folder has it. Its handlers look at the home folder of the test that calls."""
    from studio.app import build_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_STUDIO_HOME", str(tmp_path_factory.mktemp("home")))
        return build_app("train")
