"""TLS: the settings, and the contexts made from them, for the clients' port and for connections to other nodes.

A context is made whole or not at all. When a setting or a file changes, a new context takes the place of the old one
for the connections that come after that; what is wrong with a file is said by the name of its setting, and the old
context stays in use. Names and meanings follow redis src/tls.c; `tls-auth-clients-user` is Valkey's.
"""

from __future__ import annotations

import copy
import logging
import os
import ssl
from typing import Final

logger: Final = logging.getLogger("eventdb")

FILES: Final = (
    "cert_file", "key_file", "client_cert_file", "client_key_file", "ca_cert_file", "ca_cert_dir", "dh_params_file",
)  # fmt: skip
VERSIONS: Final = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}
BROKEN_VERSIONS: Final = ("tlsv1", "tlsv1.1", "sslv2", "sslv3")
NO_MATCH: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


class TlsError(ValueError):
    """Why there can be no TLS with these settings: the name of one of them, and what is wrong with it."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


class Tls:
    """The settings that begin with `tls-`, an attribute each, and the contexts they mean."""

    def __init__(self) -> None:
        self.port = 0  # 0: no TLS for clients
        self.replication = "no"
        self.cluster = "no"
        self.auth_clients = "yes"
        self.auth_clients_user = "off"
        self.cert_file = self.key_file = self.key_file_pass = ""
        self.client_cert_file = self.client_key_file = self.client_key_file_pass = ""
        self.ca_cert_file = self.ca_cert_dir = ""
        self.protocols = ""  # "": TLSv1.2 and TLSv1.3
        self.ciphers = self.ciphersuites = ""
        self.prefer_server_ciphers = "no"
        self.session_caching = "yes"
        self.dh_params_file = ""
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None
        self._seen: dict[str, tuple[int, int, int]] = {}  # the files as they were when the contexts were made
        self._changing: dict[str, tuple[int, int, int]] = {}  # … at the last look, if they differed

    def put(self, attribute: str, value: int | str) -> None:
        """Change one setting; the contexts are made again when somebody needs them."""
        setattr(self, attribute, value)
        self._server = self._client = None

    def changed(self, values: dict[str, int | str]) -> Tls:
        """The same settings with other values of these attributes, and contexts that are still to be made."""
        made = copy.copy(self)
        made._server = made._client = None
        for attribute, value in values.items():
            made.put(attribute, value)
        return made

    def is_used(self) -> bool:
        return self.port > 0 or self.between_nodes()

    def between_nodes(self) -> bool:
        """Connections to other nodes are TLS too, and others are given the TLS port of this one."""
        return self.replication == "yes" or self.cluster == "yes"

    def check(self) -> None:
        """Make what will be needed. Raises TlsError."""
        if not self.is_used():
            return
        self._seen = self._stamps()
        if self.port:
            self.server_context()
        if self.between_nodes():
            self.client_context()

    def server_context(self) -> ssl.SSLContext:
        """For the next client. Raises TlsError."""
        if self._server is None:
            self._server = self._make_server()
        return self._server

    def client_context(self) -> ssl.SSLContext | None:
        """For the next connection to another node; None: it is a plain one. Raises TlsError."""
        if not self.between_nodes():
            return None
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def look(self) -> bool:
        """Take files over that have changed, once two looks find them alike. False, and a warning: they are bad."""
        stamps = self._stamps()
        if stamps == self._seen or not self.is_used():
            return True
        if stamps != self._changing:  # somebody may be at it: the certificate is there and its key is not yet
            self._changing = stamps
            return True
        self._seen = stamps
        made = self.changed({})
        try:
            made.check()
        except TlsError as error:
            logger.warning("TLS files have changed, and the former ones stay in use: %s", error)
            return False
        self.take_over(made)
        logger.info("TLS files have changed: new connections get the new ones")
        return True

    def take_over(self, made: Tls) -> None:
        """Use the contexts of one that has the same settings."""
        self._server, self._client, self._seen = made._server, made._client, made._seen

    def _stamps(self) -> dict[str, tuple[int, int, int]]:
        found: dict[str, tuple[int, int, int]] = {}
        for attribute in FILES:
            path = getattr(self, attribute)
            if path:
                try:
                    about = os.stat(path)
                    found[path] = (about.st_mtime_ns, about.st_size, about.st_ino)
                except OSError:
                    found[path] = (0, 0, 0)
        return found

    # -- making contexts

    def _make_server(self) -> ssl.SSLContext:
        if not self.cert_file:
            raise TlsError("tls-cert-file", "TLS needs a certificate, and none is set")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._restrict(context)
        _load_pair(context, "tls-", self.cert_file, self.key_file, self.key_file_pass)
        if self.auth_clients != "no":
            context.verify_mode = ssl.CERT_REQUIRED if self.auth_clients == "yes" else ssl.CERT_OPTIONAL
            self._trust(context, "tls-auth-clients")
        if self.prefer_server_ciphers == "yes":
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if self.session_caching == "no":
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        if self.dh_params_file:
            try:
                context.load_dh_params(self.dh_params_file)
            except (OSError, ValueError) as error:
                raise TlsError("tls-dh-params-file", f"{self.dh_params_file}: {_why(error)}") from None
        return context

    def _make_client(self) -> ssl.SSLContext:
        """As in Redis, a node trusts any peer with a certificate of the authority, whatever name it is for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        self._restrict(context)
        self._trust(context, "tls-replication")
        if self.client_cert_file:
            _load_pair(context, "tls-client-", self.client_cert_file, self.client_key_file, self.client_key_file_pass)
        elif self.cert_file:
            _load_pair(context, "tls-", self.cert_file, self.key_file, self.key_file_pass)
        return context

    def _trust(self, context: ssl.SSLContext, because: str) -> None:
        if not self.ca_cert_file and not self.ca_cert_dir:
            raise TlsError(
                "tls-ca-cert-file",
                f"{because} {getattr(self, because[4:].replace('-', '_'))!s} needs an authority whose certificates are"
                " trusted: set this or tls-ca-cert-dir"
                + (", or tls-auth-clients no" if because == "tls-auth-clients" else ""),
            )
        for name, path in (("tls-ca-cert-file", self.ca_cert_file), ("tls-ca-cert-dir", self.ca_cert_dir)):
            if not path:
                continue
            is_file = name == "tls-ca-cert-file"
            _readable(name, path, folder=not is_file)
            try:
                context.load_verify_locations(path if is_file else None, None if is_file else path)
            except (OSError, ValueError) as error:
                raise TlsError(name, f"{path}: it holds no certificate in PEM form ({_why(error)})") from None

    def _restrict(self, context: ssl.SSLContext) -> None:
        """Versions and ciphers."""
        wanted = versions(self.protocols)
        context.minimum_version, context.maximum_version = min(wanted), max(wanted)
        if self.ciphers:
            try:
                context.set_ciphers(self.ciphers)
            except ssl.SSLError:
                raise TlsError("tls-ciphers", f"OpenSSL knows no cipher of {self.ciphers!r}") from None
        if self.ciphersuites:
            choose = getattr(context, "set_ciphersuites", None)
            if choose is None:
                raise TlsError("tls-ciphersuites", "this Python cannot choose among the suites of TLSv1.3")
            try:
                choose(self.ciphersuites)
            except ssl.SSLError:
                raise TlsError("tls-ciphersuites", f"OpenSSL knows no suite of {self.ciphersuites!r}") from None


def versions(text: str) -> list[ssl.TLSVersion]:
    """The versions that tls-protocols names. Raises TlsError."""
    found: list[ssl.TLSVersion] = []
    for word in text.split():
        version = VERSIONS.get(word.lower())
        if version is None:
            why = "is broken" if word.lower() in BROKEN_VERSIONS else "is no version of TLS"
            raise TlsError("tls-protocols", f"{word} {why}: choose of TLSv1.2 TLSv1.3")
        found.append(version)
    return found or list(VERSIONS.values())


def _load_pair(context: ssl.SSLContext, prefix: str, cert: str, key: str, password: str) -> None:
    """The certificate and its key; without a key file both are in one. Raises TlsError."""
    cert_name, key_name = f"{prefix}cert-file", f"{prefix}key-file"
    _readable(cert_name, cert)
    if key:
        _readable(key_name, key)
    asked: list[bool] = []

    def unlock() -> str:  # without it OpenSSL asks on the terminal
        asked.append(True)
        return password

    try:
        context.load_cert_chain(cert, key or None, unlock)
    except (OSError, ValueError) as error:
        if asked:
            why = "it does not open the key" if password else "the key is encrypted, and no password is set"
            raise TlsError(f"{key_name}-pass", f"{key or cert}: {why}") from None
        if isinstance(error, ssl.SSLError) and error.reason in NO_MATCH:
            raise TlsError(key_name, f"{key or cert} is not the key of the certificate in {cert}") from None
        name, path = (cert_name, cert) if not _has_certificate(cert) else (key_name, key or cert)
        what = "certificate" if name == cert_name else "private key"
        raise TlsError(name, f"{path}: it holds no {what} in PEM form ({_why(error)})") from None


def _has_certificate(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (OSError, ValueError):
        return False
    return True


def _readable(name: str, path: str, *, folder: bool = False) -> None:
    try:
        if folder:
            os.listdir(path)
        else:
            with open(path, "rb"):
                pass
    except OSError as error:
        raise TlsError(name, f"{path}: {error.strerror}") from None


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


def names_of(certificate: dict[str, object] | None, kind: str) -> list[str]:
    """Whom a verified certificate is for: its common name ("cn"), or the URIs of its alternative names ("uri")."""
    if not certificate:
        return []
    found: list[str] = []
    if kind == "cn":
        for part in certificate.get("subject", ()):  # type: ignore[attr-defined]
            found += [value for name, value in part if name == "commonName"]
        return found[-1:]  # the most specific one
    for name, value in certificate.get("subjectAltName", ()):  # type: ignore[attr-defined]
        if name == "URI":
            found.append(value)
    return found
