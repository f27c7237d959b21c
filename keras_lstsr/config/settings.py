"""What all settings share: immutable, no unknown names, and a YAML file where they have one."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from keras_lstsr.errors import ConfigError
from keras_lstsr.files import read_mapping, write_text_whole


def in_brackets(name: str) -> str:
    """Returns the tag of one kind of settings among several, which no error shows."""
    return f"({name})"


class Settings(BaseModel):
    """Settings that cannot be changed and know all their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SettingsFile(Settings):
    """Settings that are kept in a YAML file of their own.

    Attributes:
        renamed: Dotted name that a setting had → what stands in for it, for errors.
    """

    renamed: ClassVar[dict[str, str]] = {}

    @classmethod
    def from_yaml(cls, path: str | PathLike[str]) -> Self:
        """Reads and validates a YAML file.

        Raises:
            ConfigError: If the file is missing, no YAML mapping, or holds an unknown or invalid
                setting; the message names the setting.
        """
        action = "Give the path of a YAML file; configs/ holds examples."
        content = read_mapping(Path(path), ConfigError, action=action)
        return cls.from_dict(content, source=path)

    @classmethod
    def from_dict(
        cls, content: dict[str, Any], *, source: str | PathLike[str] | None = None
    ) -> Self:
        """Validates a mapping; ``source`` names its file in errors.

        Raises:
            ConfigError: If a setting is unknown or invalid; the message names it.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            parts = (str(part) for part in first["loc"])
            field = ".".join(part for part in parts if not part.startswith("("))
            action = "Correct this setting; docs/configuration.md lists them all."
            if field in cls.renamed:
                action = f"It is now {cls.renamed[field]}."
            raise ConfigError(
                first["msg"],
                path=source,
                field=field or None,
                found=repr(first["input"]) if first["loc"] else None,
                action=action,
            ) from error

    def to_yaml(self, path: str | PathLike[str]) -> None:
        """Writes the settings, defaults included, so that a run can be repeated."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        write_text_whole(path, text)


def put_by_name(content: dict[str, Any], name: str, value: Any) -> None:
    """Sets a setting by its dotted name, e.g. ``training.epochs``, in a mapping of settings.

    Raises:
        ConfigError: If one of its sections is no mapping.
    """
    *sections, last = name.strip().split(".")
    place: Any = content
    for section in sections:
        if place.get(section) is None:
            place[section] = {}
        place = place[section]
        if not isinstance(place, dict):
            raise ConfigError(
                "no such setting",
                field=name,
                action="docs/configuration.md lists all settings.",
            )
    place[last] = value
