"""Holds a list of components against the schema of CycloneDX: reads the document, writes {wrong: what is wrong, or null}."""
import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(sys.stdin.read())
json.dump({"wrong": wrong and str(wrong)}, sys.stdout)
