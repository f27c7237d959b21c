"""The documents: they wrap, their links lead somewhere, and what they print can be typed."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import keras_lstsr

ROOT = Path(__file__).resolve().parents[1]
PATHS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "serving" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
WIDTH = 120
every_document = pytest.mark.parametrize(
    "path", PATHS, ids=lambda path: str(path.relative_to(ROOT)).replace("/", "-")
)


def blocks(path: Path, *languages: str) -> list[str]:
    """The code blocks of a document in one of these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def prose(path: Path) -> str:
    """The document without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


@every_document
def test_prose_wraps(path):
    for line in prose(path).splitlines():
        without_addresses = re.sub(r"\]\([^)]*\)", "]", line)
        assert line.startswith("|") or len(without_addresses) <= WIDTH, line


@cache
def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    plain = (heading.lower().replace("`", "") for heading in headings)
    kept = ("".join(c for c in text if c.isalnum() or c in " -_") for text in plain)
    return {text.replace(" ", "-") for text in kept}


@every_document
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def public_names(path: Path) -> set[str]:
    """What a document takes from the package."""
    text = path.read_text()
    used = set(re.findall(r"\blstsr\.(\w+)", text))
    for code in blocks(path, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "keras_lstsr":
                used |= {alias.name for alias in node.names}
    return used


@every_document
def test_python_is_python_and_imports_the_package_alone(path):
    for code in blocks(path, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            assert not [name for name in modules if name.startswith("keras_lstsr.")], code
    assert public_names(path) <= set(keras_lstsr.__all__)


def test_public_names_are_those_of_the_documents():
    used = set().union(*map(public_names, PATHS))
    assert used == set(keras_lstsr.__all__) - {"__version__"}


def commands(path: Path) -> Iterator[list[str]]:
    """The commands that a document prints, in blocks and within sentences, as words."""
    for code in blocks(path, "sh", "console", ""):
        for line in code.replace("\\\n", " ").splitlines():
            yield words(line.removeprefix("$ "))
    for span in re.findall(r"`([^`]+)`", prose(path)):
        yield words(span.replace("\n", " "))


def words(line: str) -> list[str]:
    """Splits a command as a shell does; nothing where it is none."""
    try:
        found = shlex.split(line, comments=True)
    except ValueError:  # prose with an apostrophe
        return []
    while found and re.fullmatch(r"[A-Z_]+=\S*", found[0]):
        found = found[1:]
    return found


def options_of(command: str) -> set[str]:
    """Every option of a subcommand of ``keras-lstsr``."""
    from beam_jobs.rasters_to_tfrecords import build_parser
    from keras_lstsr.cli.main import cli

    if command == "prepare":
        return set(build_parser()._option_string_actions)
    found = cli.get_command(click.Context(cli), command)
    assert found is not None, f"there is no command {command}"
    parameters = found.get_params(click.Context(found))
    return {name for each in parameters for name in (*each.opts, *each.secondary_opts)}


def given_options(arguments: list[str]) -> set[str]:
    """The options among the arguments of a command, up to its end in the shell."""
    end = next((i for i, word in enumerate(arguments) if word in ("&", "|", ";")), None)
    return {word.partition("=")[0] for word in arguments[:end] if word.startswith("--")}


@every_document
def test_commands_have_the_options_printed(path):
    for command in commands(path):
        if command[:1] == ["keras-lstsr"] and len(command) > 1 and command[1] != "--help":
            unknown = given_options(command[2:]) - options_of(command[1])
            assert not unknown, shlex.join(command)


@every_document
def test_entries_of_the_project_exist(path):
    entries: dict[str, Any] = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    for command in commands(path):
        if command[:2] != ["mlflow", "run"] or "-e" not in command:
            continue
        for name in command[command.index("-e") + 1].split("|"):
            assert name in entries, shlex.join(command)
            known = set(entries[name].get("parameters", {})) | {
                option.removeprefix("--") for option in options_of(name)
            }
            given = [command[i + 1] for i, word in enumerate(command) if word == "-P"]
            assert {text.partition("=")[0] for text in given} <= known, shlex.join(command)


@every_document
def test_benchmarks_and_targets_exist(path):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(path):
        for script in (word for word in command if word.startswith("benchmarks/")):
            text = (ROOT / script).read_text()
            after = command[command.index(script) + 1 :]
            assert not [name for name in given_options(after) if f'"{name}"' not in text], command
        if command[:1] == ["make"]:
            assert set(command[1:2]) <= targets, command


def test_the_index_of_decisions_is_whole():
    text = (ROOT / "docs" / "decisions.md").read_text()
    index, _, rest = text.partition("## Index\n")[2].partition("\n## ")
    sections = re.findall(r"^## (.*)\n(.*)", "## " + rest, re.MULTILINE)
    # A link may be broken over two lines, but only between its text and what follows it.
    entries = re.findall(r"^- \[(.*)\]\(#\S+\)(\s+\(overtaken\))?", index, re.MULTILINE)
    overtaken = {heading for heading, first in sections if first.startswith("*Overtaken by [")}
    assert sorted(heading for heading, _ in entries) == sorted(heading for heading, _ in sections)
    assert {heading for heading, mark in entries if mark} == overtaken


# Turns of phrase that a reader who learnt English later must read twice.
HARD = (
    *("is none of", "are none of", "tells none", "if none is", "lacks no", "be it", "be they"),
    *("went on otherwise", "as ever", "therein", "thereof", "whereby", "hereby", "lest"),
)


def test_no_hard_english():
    code = (path for room in ("keras_lstsr", "beam_jobs", "serving") for path in room_files(room))
    for path in (*PATHS, *code):
        text = " ".join(path.read_text().split()).lower()
        found = [phrase for phrase in HARD if re.search(rf"\b{phrase}\b", text)]
        assert not found, f"{path.relative_to(ROOT)}: {found}"


def room_files(room: str) -> list[Path]:
    """The modules of a package."""
    return sorted((ROOT / room).rglob("*.py"))
