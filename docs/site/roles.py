# SPDX-License-Identifier: Apache-2.0
"""The docstrings' roles (``:func:`plan` ``) as code, which is all that the site's Markdown has for them."""

import re

import griffe


class Roles(griffe.Extension):
    """Leaves the name and drops the role."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Changes an object's docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = re.sub(r":[a-z]+:(`[^`]+`)", r"\1", obj.docstring.value)
