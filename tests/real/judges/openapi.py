"""Judges a description of an interface and what was really answered: reads {description, answers} as JSON,
writes a list of what is wrong."""
import json
import sys

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

told = json.load(sys.stdin)
description, wrong = told["description"], []
for error in OpenAPIV31SpecValidator(description).iter_errors():
    wrong.append(f"description: {error.message} at {list(error.absolute_path)}")

for answer in told["answers"]:
    at = f"{answer['method']} {answer['path']}"
    operation = description["paths"][answer["path"]][answer["method"].lower()]
    answers = operation["responses"]
    described = answers.get(str(answer["status"])) or (answers["default"] if answer["status"] >= 400 else None)
    if described is None:
        wrong.append(f"{at}: {answer['status']} is not described: {answer['body']}")
        continue
    content = described["content"].get(answer["type"].split(";")[0])
    if content is None:
        wrong.append(f"{at}: {answer['type']} is not described")
        continue
    # References of the schema are those of the whole document.
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **content["schema"], "components": description["components"]}
    for error in Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(answer["body"]):
        wrong.append(f"{at}: {error.message} at {list(error.absolute_path)}")
json.dump(wrong, sys.stdout)
