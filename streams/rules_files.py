"""The files that a rules file names (secrets, certificates, templates): read from disk once, then carried with it."""

from glob import glob
from pathlib import Path
from typing import Final, Protocol

import msgspec

from streams.rules_yaml import MAX_BYTES, Node, Problems

MAX_SECRET_BYTES: Final = 1 << 16
MAX_TEMPLATES: Final = 200


class UnreadableError(ValueError):
    """Raised for a file that is named and cannot be had."""


class Source(Protocol):
    """Where the contents of named files come from."""

    def secret(self, path: str) -> str:
        """The whole content; raises UnreadableError."""

    def matching(self, pattern: str) -> dict[str, str]:
        """Name and content of each template file of a pattern; raises UnreadableError."""


class Files(msgspec.Struct, frozen=True):
    """Contents by the path as the rules file writes it, templates by pattern and then by file."""

    secrets: dict[str, str] = {}
    templates: dict[str, dict[str, str]] = {}

    def secret(self, path: str) -> str:
        """The content kept under that path."""
        if path not in self.secrets:
            raise UnreadableError("its content was not read with the rules file")
        return self.secrets[path]

    def matching(self, pattern: str) -> dict[str, str]:
        """The template files kept for that pattern."""
        return self.templates.get(pattern, {})

    def __repr__(self) -> str:
        return f"Files({sorted(self.secrets)}, {sorted(self.templates)})"


class Disk:
    """Reads what is asked for below the rules file's folder, and keeps it for `files`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secrets: dict[str, str] = {}
        self._templates: dict[str, dict[str, str]] = {}

    @property
    def files(self) -> Files:
        """Everything that was read."""
        return Files(self._secrets, self._templates)

    def secret(self, path: str) -> str:
        """Read a file; a relative path starts at the rules file's folder."""
        self._secrets[path] = _read(self._folder / path, MAX_SECRET_BYTES)
        return self._secrets[path]

    def matching(self, pattern: str) -> dict[str, str]:
        """Read the files of a pattern in the order of their names; none is no error, as in Alertmanager."""
        found = sorted(glob(str(self._folder / pattern)))  # noqa: PTH207 - the pattern may be absolute
        paths = [Path(name) for name in found]
        if len(paths) > MAX_TEMPLATES:
            raise UnreadableError(f"it names more than {MAX_TEMPLATES} files")
        self._templates[pattern] = {str(path): _read(path, MAX_BYTES) for path in paths}
        return self._templates[pattern]


def _read(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise UnreadableError(f"the file is larger than {limit} bytes")
        text = content.decode()
        if "\x00" in text:
            raise UnreadableError("the file holds a NUL byte")
        return text
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UnreadableError(f"the file cannot be read: {reason}") from error


class TemplateUse(msgspec.Struct, frozen=True):
    """One template that stands in the rules file itself."""

    line: int
    field: str
    text: str
    html: bool = False
    jinja: bool = False


class Reader:
    """What reading a rules file needs and gathers: its other files, complaints, and the templates in it."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self.problems = problems
        self.uses: list[TemplateUse] = []
        self._source = source

    def secret_file(self, node: Node) -> str:
        """The content of the file that the node names, without the white space around it."""
        value = self.file(node).strip()
        if not value:
            raise node.error("the file is empty", "write the secret into it")
        return value

    def file(self, node: Node) -> str:
        """The whole content of the file that the node names."""
        try:
            return self._source.secret(node.filled())
        except UnreadableError as error:
            raise node.error(f"{node.text()}: {error}", "check path and permissions") from error

    def templates(self, node: Node | None) -> dict[str, str]:
        """The template files of a list of patterns."""
        found: dict[str, str] = {}
        for item in node.items() if node is not None else []:
            with self.problems.noted():
                try:
                    found.update(self._source.matching(item.filled()))
                except UnreadableError as error:
                    raise item.error(f"{item.text()}: {error}", "check the files") from error
        return found

    def template(self, node: Node, *, html: bool = False, jinja: bool = False) -> str:
        """A template's text, noted so that it can be checked."""
        text = node.text()
        if text:
            self.uses.append(TemplateUse(node.line, node.path, text, html, jinja))
        return text
