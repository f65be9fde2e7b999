"""Judges Kubernetes objects offline: reads {versions, objects: {name: object}, patches: {name: [object, patch]}},
writes {wrong: {name: [what is wrong]}, patched: {name: object}}. Patches are applied by a library of their own (RFC 6902)."""
import json
import sys

import jsonpatch
import kubernetes_validate

told = json.load(sys.stdin)
patched = {name: jsonpatch.apply_patch(thing, patch) for name, (thing, patch) in told["patches"].items()}
wrong = {}
for name, thing in {**told["objects"], **patched}.items():
    wrong[name] = []
    for version in told["versions"]:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.utils.SchemaNotFoundError:
            # A kind that this version does not know yet.
            wrong[name].append(f"{version}: unknown kind")
        except kubernetes_validate.ValidationError as e:
            wrong[name].append(f"{version}: {e.message}")
json.dump({"wrong": wrong, "patched": patched}, sys.stdout)
