"""What is taken from a Dockerfile, and how."""

from __future__ import annotations

import pytest

from slipway.core.dockerfile import DockerfileError, expand, parse_dockerfile

KNOWN = {"PATH": "/bin", "HOME": "/root"}


def test_four_instructions_and_nothing_else() -> None:
    found = parse_dockerfile(
        """# syntax=docker/dockerfile:1
FROM ubuntu AS build
ENV LOST=1
FROM python:3.11
run rm -rf /
label a=b "com.example.two words"="c d" \\
  # a comment in between

  e='f g'
ENV A=1 B="two words" C=three\\ words
ENV OLD the rest of it
WORKDIR /opt
WORKDIR app
CMD ["never"]
ENTRYPOINT [ "python", "serve.py" ]
"""
    )
    assert found.labels == (("a", "b"), ("com.example.two words", "c d"), ("e", "f g"))
    assert expand(found.environment, {}) == {"A": "1", "B": "two words", "C": "three words", "OLD": "the rest of it"}
    assert (found.entrypoint, found.shell, found.working_dir) == (("python", "serve.py"), False, "/opt/app")


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("/opt/program:$PATH", "/opt/program:/bin"),
        ('"/opt/program:${PATH}"', "/opt/program:/bin"),
        ("'${PATH}'", "${PATH}"),
        ("\\$PATH", "$PATH"),
        ('"\\$PATH \\"quoted\\""', '$PATH "quoted"'),
        ("${NONE:-some}", "some"),
        ("${HOME:-some}", "/root"),
        ("${HOME:+set}", "set"),
        ("${NONE:+set}", ""),
        ("a$NONE", "a"),
    ],
)
def test_variables_are_filled_in(value: str, meant: str) -> None:
    assert expand(parse_dockerfile(f"ENV V={value}").environment, KNOWN) == {"V": meant}


def test_later_variables_see_earlier_ones() -> None:
    found = parse_dockerfile("ENV A=x B=$A-y\nENV C=$B-z")
    assert expand(found.environment, KNOWN) == {"A": "x", "B": "x-y", "C": "x-y-z"}


def test_the_shell_form() -> None:
    found = parse_dockerfile("entrypoint exec python serve.py")
    assert (found.entrypoint, found.shell) == (("/bin/sh", "-c", "exec python serve.py"), True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ENV", "NAME=value"),
        ("ENV A=1 B", "NAME=value"),
        ("ENV 1A=1", "'1A' cannot be"),
        ("ENTRYPOINT ['python']", "double quotes"),
        ("ENTRYPOINT [1]", "list of strings"),
        ("LABEL", "NAME=value"),
    ],
)
def test_what_cannot_be_read_is_named(line: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        parse_dockerfile(f"FROM x\n{line}\n")
