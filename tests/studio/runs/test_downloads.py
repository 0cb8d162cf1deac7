"""The panel of downloads keeps what was said."""

import gradio as gr

from studio.train_tab import download_panel


def test_a_page_that_opens_late_leaves_what_is_said_about_downloads(home):
    said, _, _ = download_panel.begin("../etc")
    assert "../etc" in said
    assert download_panel.watch()[0] == gr.skip()
