"""testssl.sh (Debian: testssl.sh): protocols, ciphers, forward secrecy, what the server prefers, and every vulnerability
it knows.

Not judged: whom the certificate is from (it is made on the spot) and how old clients would fare."""

import json
from collections import Counter

from stage import CannotJudge, program

GOOD = {"OK", "INFO", "DEBUG"}
# What it says about itself and not about the server.
OWN = {"engine_problem", "scanTime", "old_fart"}
# A scan that ends early must not pass.
VULNERABILITIES = ["heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_renego", "secure_client_renego", "CRIME_TLS",
                   "BREACH", "POODLE_SSL", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13", "RC4"]
OFFERED = {"SSLv2": False, "SSLv3": False, "TLS1": False, "TLS1_1": False, "TLS1_2": True, "TLS1_3": True}


def judge(stage):
    scanner = program("testssl", "testssl.sh")
    stage.certificate()
    port = stage.balancer("""
        [listener.https]
        address = "127.0.0.1:0"
        tls = { certificates = [{ chain = "chain.pem", key = "key.pem" }] }
        [[route]]
        respond = { status = 200, body = "well" }
    """)["https"]
    report = stage.path("report.json")
    said = stage.run([scanner, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1",
                      "--protocols", "--std", "--fs", "--server-preference", "--vulnerable",
                      "--jsonfile", report, f"localhost:{port}"], seconds=240, accept_failure=True)
    try:
        with open(report, encoding="utf-8") as file:
            findings = [finding for finding in json.load(file) if finding["id"] not in OWN]
    except (OSError, ValueError) as error:
        raise CannotJudge(f"no report: {error}:\n{said[-4000:]}") from error
    severities = Counter(finding["severity"] for finding in findings)
    found = {finding["id"]: finding["finding"] for finding in findings}
    print(f"   {len(findings)} findings: {dict(severities)}")
    faults = [f"{finding['id']}: {finding['severity']}: {finding['finding']}"
              for finding in findings if finding["severity"] not in GOOD]
    for version, is_offered in OFFERED.items():
        if found.get(version, "not looked at").startswith("offered") != is_offered:
            faults.append(f"{version}: {found.get(version, 'not looked at')}")
    for vulnerability in VULNERABILITIES:
        if vulnerability not in found:
            faults.append(f"{vulnerability}: not looked at")
    grade = found.get("overall_grade", "A")  # newer releases give one
    if grade not in ("A", "A+"):
        faults.append(f"grade {grade}")
    return faults
