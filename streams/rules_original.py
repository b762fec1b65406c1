"""A rules file as others may see it: without our own part, secrets masked as Alertmanager masks them."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import yaml

from streams.rules_channels import CHANNELS

MASK: Final = "<secret>"
_OURS: Final = "incidents"
_ALWAYS: Final = frozenset(
    {
        "password", "credentials", "bearer_token", "client_secret", "key", "secrets", "secret_key",
        "smtp_auth_password", "smtp_auth_secret", "slack_api_url", "opsgenie_api_key", "victorops_api_key",
        "telegram_bot_token", "wechat_api_secret", "slack_app_token", "rocketchat_token", "rocketchat_token_id",
        "mattermost_webhook_url",
    }
)  # fmt: skip
_ADDRESSES: Final = frozenset({"proxy_url"})
_LABELS: Final = frozenset(
    {"match", "match_re", "source_match", "source_match_re", "target_match", "target_match_re"}
)  # fmt: skip
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_BY_URL: Final = frozenset({"webhook_configs", "incidentio_configs"})


def original_of(text: str) -> str:
    """The file's text for `config.original`; amtool loads it.

    A webhook's address keeps scheme and host, since before Alertmanager 0.26 `<secret>` is no address there.
    """
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(top, yaml.MappingNode):
        return text
    top.value = [(key, value) for key, value in top.value if key.value != _OURS]
    _mask(top, frozenset(), "", set())
    shown: str = yaml.serialize(top, Dumper=yaml.SafeDumper, allow_unicode=True, width=1 << 20)
    return shown


def _mask(node: yaml.Node, secrets: frozenset[str], channel: str, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _mask(item, secrets, channel, seen)
    if isinstance(node, yaml.ScalarNode):
        node.value = _USER_INFO.sub("", node.value, count=1)
    if isinstance(node, yaml.MappingNode):
        _mask_values(node, secrets, channel, seen)


def _mask_values(node: yaml.MappingNode, secrets: frozenset[str], channel: str, seen: set[int]) -> None:
    for key, value in node.value:
        name = str(key.value)
        if name in _LABELS:
            continue
        if (channel in _BY_URL and name == "url") or name in _ADDRESSES:
            _hide_path(value)
        elif name in _ALWAYS or name in secrets:
            for scalar in _scalars(value):
                scalar.value, scalar.style, scalar.tag = MASK, None, "tag:yaml.org,2002:str"
        elif name in CHANNELS:
            _mask(value, frozenset(CHANNELS[name].secrets), name, seen)
        else:
            _mask(value, secrets if name != "details" else frozenset(), channel, seen)


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        if node.value:
            yield node
        return
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        yield from _scalars(item)


def _hide_path(node: yaml.Node) -> None:
    if not isinstance(node, yaml.ScalarNode):
        return
    parts = urlsplit(node.value)
    if parts.username or parts.password or parts.query or parts.path.strip("/"):
        host = parts.netloc.rpartition("@")[2]
        node.value = f"{parts.scheme}://{host}/{MASK}"
