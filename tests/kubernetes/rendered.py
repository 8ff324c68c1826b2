#!/usr/bin/env python3
"""The objects of a rendered chart, of JSON objects one behind the other as `kubectl patch --local -o json` prints them.

  rendered.py OBJECTS    prints kind, namespace and name of each
"""

import json
import pathlib
import sys


def read(file):
    """The objects in a file."""
    decoder, text, objects = json.JSONDecoder(), pathlib.Path(file).read_text().strip(), []
    while text:
        one, end = decoder.raw_decode(text)
        objects.append(one)
        text = text[end:].lstrip()
    return objects


def at(value, *path):
    """That part of it, None where it is not there."""
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and isinstance(name, int) and name < len(value):
            value = value[name]
        else:
            return None
    return value


class Release:
    """What one values file makes: NAME.json, and beside it NAME.notes."""

    def __init__(self, file, fullname):
        self.name = file.stem
        self.fullname = fullname
        self.objects = read(file)
        self.notes = file.with_suffix(".notes").read_text()
        self.deployment = self.one("Deployment", fullname)
        self.pod = at(self.deployment, "spec", "template", "spec")
        self.container = at(self.pod, "containers", 0)
        self.env = {env["name"]: env.get("value", env.get("valueFrom")) for env in at(self.container, "env") or []}
        self.broken = []

    def all(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind, name):
        return next((each for each in self.all(kind) if each["metadata"]["name"] == name), None)

    def equal(self, what, found, expected):
        if found != expected:
            self.broken.append(f"{self.name}: {what}: {shown(found)}, and is to be {shown(expected)}")

    def selects_operators(self, what, labels):
        self.equal(f"{what} selects", labels, at(self.deployment, "spec", "selector", "matchLabels"))


def shown(value):
    return str(sorted(value, key=str)) if isinstance(value, set) else json.dumps(value)


def named(each):
    where = f"{each['metadata']['namespace']}/" if "namespace" in each["metadata"] else ""
    return f"{each['kind']} {where}{each['metadata']['name']}"


def main(file):
    print("\n".join(sorted(map(named, read(file)))))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
