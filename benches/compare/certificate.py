"""The certificate that every proxy shows: ECDSA P-256, for localhost, made anew for each run."""

import os
import subprocess
from dataclasses import dataclass

from tools import needed


@dataclass
class Certificate:
    """Paths of PEM files; `both` is chain and key in one file, as HAProxy wants it."""

    chain: str
    key: str
    both: str


def make(directory):
    openssl = needed("openssl", "it makes the certificate")
    made = Certificate(*(os.path.join(directory, name) for name in ("chain.pem", "key.pem", "both.pem")))
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", made.key, "-out", made.chain],
        check=True, capture_output=True, timeout=20)
    with open(made.both, "w", encoding="ascii") as both:
        for part in (made.chain, made.key):
            with open(part, encoding="ascii") as file:
                both.write(file.read())
    return made
