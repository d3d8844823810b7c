"""Known vulnerabilities of the locked packages, from the databases that can be reached.

usage: python -m benchmarks.vulnerabilities [LOCK]

pip-audit is installed into a folder that is thrown away: it is no part of the project. Where no database answers, that
is said, and nothing is claimed; the exit code is 1 where a vulnerability is known.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks import ROBUSTNESS_RESULTS
from facelib.formats import write_json
from facelib.runs import project_root

PIP_AUDIT = "pip-audit==2.10.1"
SERVICES = ("pypi", "osv")
TIMEOUT = 600  # seconds


def audit(program: Path, lock: Path, service: str) -> list[dict] | None:
    """What a database says of each pin: name, version, vulns or skip_reason; None where it does not answer."""
    command = [program, "-r", lock, "--require-hashes", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    try:
        done = subprocess.run([*command, "-s", service], capture_output=True, text=True, timeout=TIMEOUT)
        return json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, json.JSONDecodeError, KeyError):
        return None


def summarise(pins: int, answers: dict[str, list[dict] | None]) -> dict:
    """Pins, how many of them each database knows, and the vulnerabilities known to any.

    A package that a database has never heard of has not been checked.
    """
    checked = {service: sum("vulns" in pin for pin in answer or []) for service, answer in answers.items()}
    found = sorted(
        {
            (pin["name"], pin["version"], vulnerability["id"])
            for answer in answers.values()
            for pin in answer or []
            for vulnerability in pin.get("vulns", [])
        }
    )
    return {"pins": pins, "checked": checked, "vulnerabilities": [" ".join(line) for line in found]}


def main() -> int:
    """Ask every database, say what they answered, and leave it beside the other measurements."""
    lock = Path(sys.argv[1]) if len(sys.argv) > 1 else project_root() / "requirements.lock"
    pins = len(re.findall(r"(?m)^[A-Za-z0-9._-]+==", lock.read_text()))
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        pip = [Path(scratch) / "bin" / "python", "-m", "pip", "install", "--quiet", PIP_AUDIT]
        if subprocess.run(pip, capture_output=True).returncode:
            print(f"{PIP_AUDIT} could not be installed, so nothing is known of the {pins} packages of {lock}")
            return 0
        answers = {service: audit(Path(scratch) / "bin" / "pip-audit", lock, service) for service in SERVICES}
    results = summarise(pins, answers)
    write_json(project_root() / ROBUSTNESS_RESULTS / "vulnerabilities.json", results)
    for service, checked in results["checked"].items():
        print(
            f"{service}: {checked} of {pins} packages checked" + ("" if checked else "; it cannot be reached from here")
        )
    if not any(results["checked"].values()):
        print(f"no vulnerability database could be reached, so nothing is known of the {pins} packages of {lock}")
    for line in results["vulnerabilities"]:
        print(f"vulnerable: {line}")
    return bool(results["vulnerabilities"])


if __name__ == "__main__":
    sys.exit(main())
