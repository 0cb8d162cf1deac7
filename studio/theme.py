"""The app's one look, light and dark: Gradio's default theme in indigo and slate, calmer and with enough contrast.

By itself, since the app and the pages of a Space wear it.
"""

from pathlib import Path

import gradio as gr
from gradio.themes.utils.fonts import LocalFont

CSS_FILES = [Path(__file__).parent / name for name in ("style.css", "data_tab/style.css")]


def theme() -> gr.themes.Base:
    """The theme for launch(). Nothing in it is fetched from outside the machine."""
    # Weight 600 of these fonts ships without Latin letters in gradio 6.31, so only 400 and 700 are named.
    return gr.themes.Default(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        spacing_size="sm",
        text_size="sm",
        radius_size="sm",
        font=[LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    ).set(
        # Measured with axe: the defaults stay below 4.5:1 on these.
        block_info_text_color="*neutral_600",
        body_text_color_subdued="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_cancel_background_fill="#dc2626",
        button_cancel_background_fill_hover="#b91c1c",
        block_shadow="none",
        button_primary_shadow="none",
        button_secondary_shadow="none",
    )
