"""Looks for weak settings with Checkov: reads {name: text of a manifest}, writes {name: [[check, resource]]}, what failed."""
import json
import pathlib
import subprocess
import sys
import tempfile

texts = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    for name, text in texts.items():
        pathlib.Path(folder, name + ".yaml").write_text(text)
    out = subprocess.run(
        [sys.executable, "-m", "checkov.main", "-d", folder, "--framework", "kubernetes", "--compact", "--quiet", "--skip-download", "-o", "json"],
        capture_output=True, text=True,
    )
found = {name: [] for name in texts}
for check in json.loads(out.stdout)["results"]["failed_checks"]:
    found[pathlib.Path(check["file_path"]).stem].append([check["check_id"], check["resource"]])
json.dump(found, sys.stdout)
