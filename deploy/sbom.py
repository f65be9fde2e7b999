#!/usr/bin/env python3
"""Says what is in the binary: a CycloneDX 1.5 document of every crate that is linked into it, from Cargo.lock.

    python3 deploy/sbom.py > farepass.cdx.json

Takes the target as its argument, else that of the image. Needs cargo and Python 3.11. The same lock file gives the same bytes.
"""
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

TARGET = sys.argv[1] if len(sys.argv) > 1 else "x86_64-unknown-linux-musl"
ROOT = pathlib.Path(__file__).resolve().parent.parent

lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
sums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}
# Without what only builds or tests need. Each crate's own are listed where it is named first.
tree = subprocess.run(
    ["cargo", "tree", "--locked", "--edges", "normal", "--prefix", "depth", "--format", "{p}\t{l}", "--target", TARGET],
    cwd=ROOT, check=True, capture_output=True, text=True,
).stdout


def purl(name, version):
    return f"pkg:cargo/{name}@{version}"


def component(name, version, licence):
    found = {"type": "library", "bom-ref": purl(name, version), "name": name, "version": version, "purl": purl(name, version)}
    if licence:
        found["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    if checksum := sums[name, version]:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


crates, edges, above = {}, {}, []
for line in tree.splitlines():
    depth, name, version, licence = re.match(r"(\d+)(\S+) v(\S+)[^\t]*\t(.*?)(?: \(\*\))?$", line).groups()
    this = (name, version)
    crates[this] = component(name, version, licence)
    edges.setdefault(this, set())
    del above[int(depth):]
    if above:
        edges[above[-1]].add(this)
    above.append(this)
root = above[0]
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {"component": {**crates[root], "type": "application"}},
    "components": [crates[this] for this in sorted(crates) if this != root],
    "dependencies": [{"ref": purl(*this), "dependsOn": sorted(purl(*d) for d in edges[this])} for this in sorted(crates)],
}
document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document))}"
json.dump(document, sys.stdout, indent=1)
print()
