"""TLS, tokens and warnings, between a real server and its client on this machine."""

from __future__ import annotations

import datetime as dt
import ipaddress

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keras_lstsr.errors import ServingError
from keras_lstsr.inference.connection import (
    ServerAccess,
    is_loopback,
    open_channel,
    read_token,
    server_address,
)
from serving.client import LstsrClient
from serving.local_server import LocalServer
from serving.security import ServerSecurity

KELVIN = np.full((1, 6, 6, 1), 290, np.float32)
TOKEN = "7d4ab2-secret"


class Authority:
    """Signs certificates, and writes them into a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ca_file = self._write(name, self.key, self.key, x509.BasicConstraints(True, None))[0]

    def _write(self, name, key, signer, *extensions):
        def called(common):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])

        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=called(self.name),
            subject_name=called(name),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(days=1),
            not_valid_after=now + dt.timedelta(days=1),
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = self.folder / f"{self.name}-{name}.pem"
        encoding = serialization.Encoding.PEM
        certificate.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(encoding))
        key_file = certificate.with_suffix(".key")
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(encoding, form, plain))
        return certificate, key_file

    def issue(self, name):
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = x509.SubjectAlternativeName([address])
        return self._write(name, ec.generate_private_key(ec.SECP256R1()), self.key, names)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture(scope="module")
def secured(tiny_models_dir, authority):
    certificate, key = authority.issue("server")
    security = ServerSecurity(certificate, key, authority.ca_file, TOKEN)
    with LocalServer(tiny_models_dir, port=0, security=security) as server:
        yield server


def test_who_has_certificate_and_token_is_answered(secured, authority):
    access = ServerAccess(True, authority.ca_file, *authority.issue("client"), TOKEN)
    with LstsrClient(secured.address, access=access) as client:
        assert client.predict(KELVIN).lst_kelvin.shape == (1, 24, 24, 1)
        assert client.status() == {2: "AVAILABLE", 1: "AVAILABLE"}


@pytest.mark.parametrize("token", [None, "other", TOKEN + "x", TOKEN[:-1]])
def test_without_the_token_nothing_is_answered_and_none_is_shown(secured, authority, token):
    access = ServerAccess(True, authority.ca_file, *authority.issue("client"), token)
    with pytest.raises(ServingError, match=r"UNAUTHENTICATED.*--token-file") as caught:
        LstsrClient(secured.address, access=access)
    assert TOKEN not in str(caught.value)
    assert token is None or token not in str(caught.value)
    assert TOKEN not in repr(ServerAccess(token=TOKEN))
    assert TOKEN not in repr(ServerSecurity(token=TOKEN))


@pytest.mark.parametrize("lacking", ["tls", "the authority", "the certificate"])
def test_without_tls_or_certificate_the_server_is_not_reached(
    secured, authority, tmp_path, lacking
):
    ca_file, own = authority.ca_file, authority.issue("client")
    if lacking == "the authority":
        ca_file = Authority(tmp_path, "another").ca_file
    access = {
        "tls": ServerAccess(token=TOKEN),
        "the authority": ServerAccess(True, ca_file, *own, TOKEN),
        "the certificate": ServerAccess(True, ca_file, token=TOKEN),
    }[lacking]
    with pytest.raises(ServingError, match="cannot be reached"):
        LstsrClient(secured.address, access=access, timeout_seconds=2)


def test_a_token_alone_is_enough_on_this_machine(tiny_models_dir, monkeypatch):
    security = ServerSecurity(token=TOKEN)
    with LocalServer(tiny_models_dir, port=0, security=security) as server:
        monkeypatch.setenv("LSTSR_TOKEN", f"{TOKEN}\n")
        access = ServerAccess(token=read_token(None))
        with LstsrClient(server.address, access=access) as client:
            assert client.contract.model_version == 2
        with pytest.raises(ServingError, match="UNAUTHENTICATED"):
            LstsrClient(server.address)


def test_a_token_is_not_sent_to_another_machine_for_all_to_read():
    with pytest.raises(ServingError, match=r"unencrypted.*--tls"):
        open_channel("192.0.2.1:8500", ServerAccess(token=TOKEN), 1.0)


@pytest.mark.parametrize("text", ["", " \n", "two words", "schlüssel", "x" * 5000])
def test_what_is_no_token_is_refused_unshown(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(ServingError, match="this is no token") as caught:
        read_token(file)
    assert not text.strip() or text.strip() not in str(caught.value)
    with pytest.raises(ServingError, match="cannot be read"):
        read_token(tmp_path / "nothing")


def test_files_that_do_not_fit_are_named(authority, tmp_path):
    certificate, key = authority.issue("server")
    _, other_key = authority.issue("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for files, words in [
        ((certificate, None), "belong together"),
        ((certificate, other_key), "--tls-cert.*KEY_VALUES_MISMATCH"),
        ((text, key), "--tls-cert"),
        ((certificate, tmp_path / "nothing"), "nothing.*cannot be read"),
        ((certificate, key, text), "--client-ca"),
        ((None, None, authority.ca_file), "need TLS"),
    ]:
        with pytest.raises(ServingError, match=words):
            ServerSecurity(*files)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_an_address_that_others_reach_is_warned_of(host, local, authority):
    assert is_loopback(host) is local
    warning = ServerSecurity().warning(host)
    assert (warning is None) is local
    if warning:
        assert "--tls-cert" in warning and "--token-file" in warning
        half = ServerSecurity(token=TOKEN).warning(host)
        assert "--tls-cert" in half and "--token-file" not in half
        whole = ServerSecurity(*authority.issue("server"), token=TOKEN)
        assert whole.warning(host) is None


def test_a_server_for_all_says_so(tiny_models_dir):
    lines = []
    with LocalServer(tiny_models_dir, host="0.0.0.0", port=0, announce=lines.append):
        assert sum(line.startswith("Warning: the server listens at 0.0.0.0") for line in lines) == 1


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://localhost:8501/v1/models/lstsr", r"Write --server localhost:8501"),
        ("http://localhost", r"Write --server localhost:8500"),
        ("https://me:hidden@example.org:443", r"--tls .* --server example.org:443"),
        ("ftp://x:1", "no scheme"),
        ("localhost", "not a server address"),
        ("localhost:99999", "not a server address"),
        (":8500", "not a server address"),
    ],
)
def test_an_address_that_is_none_is_told_how_to_write(address, words):
    with pytest.raises(ServingError, match=words) as caught:
        server_address(address)
    assert "hidden" not in str(caught.value)
