from __future__ import annotations

import pytest

from serving.client import LstsrClient
from serving.local_server import LocalServer


@pytest.fixture(scope="module")
def server(tiny_models_dir):
    with LocalServer(tiny_models_dir, port=0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with LstsrClient(server.address) as connected:
        yield connected
