# SPDX-License-Identifier: Apache-2.0
"""Keyword arguments as the library's option words."""
from __future__ import annotations

from typing import Dict, Union

Option = Union[str, int, float, bool, None, Dict[str, "Option"]]


def option_words(options: dict[str, Option]) -> bytes:
    """{'feature_mask': 'none', 'split': True, 'weight': {'logits': 2}, 'class_': 2} ->
    "feature-mask=none split=1 weight.logits=2 class=2". None leaves an option out; a trailing '_' frees Python's own words."""
    words = sorted(_words(options, ""), key=lambda word: not word.startswith("profile="))  # it sets others, so it comes first
    return " ".join(words).encode()


def _words(options, prefix):
    for key, value in options.items():
        key = prefix + key.rstrip("_").replace("_", "-")
        if value is None:
            continue
        if isinstance(value, dict):
            yield from _words(value, key + ".")
            continue
        text = str(int(value)) if isinstance(value, bool) else str(value)
        if not text or any(char.isspace() for char in key + text) or "=" in key or "\0" in text:
            raise ValueError(f"option {key}={text!r}: words may not be empty or hold white space")
        yield f"{key}={text}"
