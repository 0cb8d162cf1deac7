"""The panel of downloads keeps what was said."""

import gradio as gr
import pytest

from studio.train_tab import download_panel


def test_a_page_that_opens_late_leaves_what_is_said_about_downloads(home):
    with pytest.raises(ValueError, match=r"'\.\./etc' is no repository"):
        download_panel.begin("../etc")
    assert download_panel.watch()[0] == gr.skip()
