# SPDX-License-Identifier: Apache-2.0
"""What the tests of networks in one call share."""

import pytest
import torch


@pytest.fixture
def _without_gradients():
    with torch.no_grad():
        yield
