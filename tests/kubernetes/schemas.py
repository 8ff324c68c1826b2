#!/usr/bin/env python3
"""From an API server's own description to schemas for kubeconform, strict ones.

  schemas.py OPENAPI DIRECTORY    OPENAPI is what GET /openapi/v2 answers, as JSON
"""

import json
import pathlib
import sys

PREFIX = "#/definitions/"


def strict(node):
    """The node with every object closed that lists its fields, as an API server with strict validation takes it."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-int-or-string") is True:
        return {"type": ["integer", "string"]}
    closed = {name: strict(child) for name, child in node.items()}
    # In a list of properties "properties" is a field's name, and a schema is what has a list of them beside a type.
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node and node.get("type", "object") == "object":
        closed["additionalProperties"] = False
    return closed


def reached(definitions, name):
    """The definition and all that it leads to, so that a file needs no other."""
    found, open_names = {}, [name]
    while open_names:
        name = open_names.pop()
        if name not in found:
            found[name] = definitions[name]
            open_names += [ref.removeprefix(PREFIX) for ref in refs(found[name])]
    return found


def refs(node):
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for child in node.values() for ref in refs(child)]
    return [ref for item in node for ref in refs(item)] if isinstance(node, list) else []


def main(openapi, directory):
    definitions = json.loads(pathlib.Path(openapi).read_text())["definitions"]
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    by_name = {name: strict(definition) for name, definition in definitions.items()}
    # These take any JSON; what describes them says "string", or nothing.
    for name in by_name:
        if name.endswith((".JSON", ".JSONSchemaPropsOrArray", ".JSONSchemaPropsOrBool", ".JSONSchemaPropsOrStringArray")):
            by_name[name] = {}
        elif name.endswith(".Quantity"):
            by_name[name] = {"type": ["string", "number"]}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            group = f"-{kind['group'].split('.')[0]}" if kind["group"] else ""
            file = f"{kind['kind']}{group}-{kind['version']}.json".lower()
            schema = {"$ref": PREFIX + name, "definitions": reached(by_name, name)}
            (directory / file).write_text(json.dumps(schema))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
