"""Holds documents against a JSON Schema: reads {schema, documents: {name: document}}, writes {name: [what is wrong]}."""
import json
import sys

from jsonschema import Draft202012Validator

told = json.load(sys.stdin)
Draft202012Validator.check_schema(told["schema"])
judge = Draft202012Validator(told["schema"])
json.dump({name: [f"{list(e.absolute_path)}: {e.message}" for e in judge.iter_errors(document)]
           for name, document in told["documents"].items()}, sys.stdout)
