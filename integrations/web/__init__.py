# SPDX-License-Identifier: Apache-2.0
"""The engine in the browser: an ES module (``package/``) and a page that upscales pictures (``page/``).

``lmb-quant web`` serves the page. docs/web.md is the guide.
"""

from .server import PageHandler as PageHandler
from .server import PageServer as PageServer
from .site import site_files as site_files
from .site import write_site as write_site
