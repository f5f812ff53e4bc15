"""Colours and type of the page. Fonts are those the reader's system has: nothing is fetched."""

from typing import Any

import gradio as gr

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "monospace")
_LEAF = gr.themes.Color(
    "#f0f7f2", "#dceee2", "#b9ddc6", "#8cc5a2", "#57a57a", "#3a8a5e", "#2f6f4f", "#275a41", "#1f4734",
    "#183829", "#0d2117",
)  # fmt: skip


def make_theme() -> Any:
    """Green on paper by day, green on ink by night."""
    return gr.themes.Base(
        primary_hue=_LEAF,
        secondary_hue=_LEAF,
        neutral_hue=gr.themes.colors.stone,
        font=_SANS,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_lg,
    ).set(
        body_background_fill="#faf8f4",
        body_background_fill_dark="#161513",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*primary_50",
        button_secondary_border_color="*neutral_300",
        input_background_fill="white",
        slider_color="*primary_600",
    )
