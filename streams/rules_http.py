"""`http_config` and `tls_config` of a rules file, and addresses."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlsplit

from streams.addresses import is_refused_host
from streams.rules_files import Reader
from streams.rules_yaml import Node

_HTTP: Final = frozenset(
    {
        "basic_auth", "authorization", "bearer_token", "bearer_token_file", "http_headers", "follow_redirects",
        "tls_config", "proxy_url", "no_proxy", "proxy_from_environment", "enable_http2", "oauth2",
    }
)  # fmt: skip
_HTTP_NOT_YET: Final = frozenset({"proxy_connect_header"})
_OAUTH: Final = frozenset(
    {
        "client_id", "client_secret", "client_secret_file", "token_url", "scopes", "endpoint_params", "tls_config",
        "proxy_url", "no_proxy", "proxy_from_environment",
    }
)  # fmt: skip
_OAUTH_NOT_YET: Final = frozenset(
    {
        "proxy_connect_header", "client_secret_ref", "client_certificate_key", "client_certificate_key_file",
        "client_certificate_key_ref", "client_certificate_key_id", "signature_algorithm", "iss", "audience", "claims",
        "grant_type",
    }
)  # fmt: skip
_WAYS: Final = ("basic_auth", "authorization", "bearer_token", "bearer_token_file", "oauth2")
_TLS: Final = frozenset(
    {
        "ca", "cert", "key", "ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify", "min_version",
        "max_version",
    }
)  # fmt: skip
_TLS_NOT_YET: Final = frozenset({"ca_ref", "cert_ref", "key_ref"})
_TLS_VERSIONS: Final = frozenset({"TLS10", "TLS11", "TLS12", "TLS13"})
_OURS: Final = frozenset({"content-length", "content-type", "host", "idempotency-key", "transfer-encoding"})
_WEB: Final = frozenset({"http", "https"})
_PROXIES: Final = frozenset({"http", "https", "socks5", "socks5h"})


def http_options(node: Node, reader: Reader) -> dict[str, Any]:
    """Read an `http_config`.

    Gives, where written: `basic_auth` [user, password], `authorization` (the whole header), `headers`
    [[name, value], ...], `oauth2` (see `_oauth`), `tls_config` (see `tls_options`), `proxy_url`, `no_proxy`,
    `follow_redirects`.
    """
    fields = node.fields(_HTTP, _HTTP_NOT_YET)
    options = _way_there(fields, reader)
    ways = [fields[key] for key in _WAYS if key in fields]
    if len(ways) > 1:
        raise ways[1].error("is a second way to authenticate", "keep one of them")
    if "basic_auth" in fields:
        options["basic_auth"] = _basic(fields["basic_auth"], reader)
    if "authorization" in fields:
        options["authorization"] = _authorization(fields["authorization"], reader)
    if token := header_secret(fields, "bearer_token", reader):
        options["authorization"] = f"Bearer {token}"
    if "http_headers" in fields:
        options["headers"] = list(_headers(fields["http_headers"], reader))
    if "oauth2" in fields:
        options["oauth2"] = _oauth(fields["oauth2"], reader)
    if "follow_redirects" in fields:
        options["follow_redirects"] = fields["follow_redirects"].flag()
    return options


def _way_there(fields: dict[str, Node], reader: Reader) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "tls_config" in fields:
        options["tls_config"] = tls_options(fields["tls_config"], reader)
    if "proxy_url" in fields:
        options["proxy_url"] = url(fields["proxy_url"], _PROXIES)
    if "no_proxy" in fields:
        options["no_proxy"] = fields["no_proxy"].text()
    if "proxy_from_environment" in fields and fields["proxy_from_environment"].flag():
        raise fields["proxy_from_environment"].error("is not supported", "write the proxy as `proxy_url`")
    return options


def _oauth(node: Node, reader: Reader) -> dict[str, Any]:
    """Client credentials: `client_id`, `client_secret`, `token_url`; where written `scopes`, `endpoint_params`."""
    fields = node.fields(_OAUTH, _OAUTH_NOT_YET)
    for key in ("client_id", "token_url"):
        if key not in fields:
            raise node.error(f"has no {key}", f"give it a `{key}`")
    options = _way_there(fields, reader)
    options["client_id"] = fields["client_id"].filled()
    options["client_secret"] = one_secret(fields, "client_secret", reader).strip()
    if not options["client_secret"]:
        raise node.error("has no client_secret", "give it a `client_secret` or `client_secret_file`")
    options["token_url"] = url(fields["token_url"])
    if "scopes" in fields:
        options["scopes"] = [scope.filled() for scope in fields["scopes"].items()]
    if "endpoint_params" in fields:
        options["endpoint_params"] = {name: value.text() for name, value in fields["endpoint_params"].entries().items()}
    return options


def tls_options(node: Node, reader: Reader) -> dict[str, Any]:
    """Read a `tls_config`: `ca`, `cert` and `key` as PEM text, `server_name`, `insecure_skip_verify`, versions."""
    fields = node.fields(_TLS, _TLS_NOT_YET)
    options: dict[str, Any] = {key: text for key in ("ca", "cert", "key") if (text := _pem(fields, key, reader))}
    if ("cert" in options) != ("key" in options):
        raise node.error("has only one of certificate and key", "give both or neither")
    if "server_name" in fields:
        options["server_name"] = fields["server_name"].text()
    if "insecure_skip_verify" in fields:
        options["insecure_skip_verify"] = fields["insecure_skip_verify"].flag()
    for key in ("min_version", "max_version"):
        if key in fields:
            if fields[key].text() not in _TLS_VERSIONS:
                raise fields[key].error("is not a version of TLS", f"use {', '.join(sorted(_TLS_VERSIONS))}")
            options[key] = fields[key].text()
    return options


def _pem(fields: dict[str, Node], key: str, reader: Reader) -> str:
    inline, file = fields.get(key), fields.get(f"{key}_file")
    if inline is not None and file is not None:
        raise file.error(f"is given beside `{key}`", "keep one of them")
    if file is not None:
        return reader.file(file)
    return inline.filled() if inline is not None else ""


def one_secret(fields: dict[str, Node], key: str, reader: Reader) -> str:
    """The secret written as `key` or kept in the file `key_file`; empty where neither is given."""
    inline, file = fields.get(key), fields.get(f"{key}_file")
    if inline is not None and file is not None and inline.text():
        raise file.error(f"is given beside `{key}`", "keep one of them")
    if file is not None and file.text():
        return reader.secret_file(file)
    return inline.text() if inline is not None else ""


def header_secret(fields: dict[str, Node], key: str, reader: Reader) -> str:
    """The same of a secret that goes into a header."""
    secret = one_secret(fields, key, reader).strip()
    return _printable(secret, fields.get(f"{key}_file") or fields[key]) if secret else ""


def url(node: Node, schemes: frozenset[str] = _WEB) -> str:
    """An address with a scheme and a host that may be told."""
    return address(node.filled(), node, schemes)


def refuse_host(host: str, node: Node) -> None:
    """Complain of a host that nothing is sent to."""
    if is_refused_host(host):
        raise node.error("is an address that nothing is sent to", "link-local and metadata services are never told")


def address(value: str, node: Node, schemes: frozenset[str] = _WEB) -> str:
    """The same of a text that was read from a file that `node` names."""
    if not _is_address(value, schemes):
        what = " or ".join(sorted(schemes))
        raise node.error(f"is not an {what} URL with a host", "write it like https://hooks.example.org/x")
    refuse_host(urlsplit(value).hostname or "", node)
    return value


def _is_address(value: str, schemes: frozenset[str]) -> bool:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    return usable and value.isprintable() and " " not in value


def place_of(address: str, *secrets: str) -> str:
    """Names an endpoint without telling its secret part: scheme, host and a hash of the rest."""
    parts = urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    rest = "\n".join((address, *secrets)).encode()
    return f"{parts.scheme}://{host}{port}/#{blake2b(rest, digest_size=6).hexdigest()}"


def _basic(node: Node, reader: Reader) -> list[str]:
    fields = node.fields({"username", "username_file", "password", "password_file"})
    return [one_secret(fields, key, reader) for key in ("username", "password")]


def _authorization(node: Node, reader: Reader) -> str:
    fields = node.fields({"type", "credentials", "credentials_file"})
    scheme = header_value(fields["type"]) if "type" in fields else "Bearer"
    if scheme.lower() == "basic":
        raise fields["type"].error("basic is another setting", "use basic_auth")
    credentials = header_secret(fields, "credentials", reader)
    if not credentials:
        raise node.error("has no credentials", "give it `credentials` or `credentials_file`")
    return f"{scheme} {credentials}"


def _headers(node: Node, reader: Reader) -> Iterator[list[str]]:
    for name, entry in node.entries().items():
        if not name or not all(letter.isalnum() or letter in "-_" for letter in name) or not name.isascii():
            raise entry.error("is not a header name", "use letters, digits and -")
        if name.lower() in _OURS:
            raise entry.error("is a header that delivery sets itself", "leave it out")
        fields = entry.fields({"values", "secrets", "files"})
        for key in ("values", "secrets"):
            for value in fields[key].items() if key in fields else []:
                yield [name, header_value(value)]
        for file in fields["files"].items() if "files" in fields else []:
            yield [name, _printable(reader.secret_file(file), file)]


def header_value(node: Node) -> str:
    """Text that may stand in a header."""
    return _printable(node.filled(), node)


def _printable(value: str, node: Node) -> str:
    if not value.isascii() or not value.isprintable():
        raise node.error("must be printable ASCII", "remove line breaks and other letters")
    return value
