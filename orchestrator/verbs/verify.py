"""`verify`: check an image against the files beside it: checksum, SBOM, provenance, signature."""

import argparse
import os
import pathlib
import sys

from orchestrator.ask.orders import Orders
from orchestrator.ask.parser import Parser, caller_path
from orchestrator.ask.request import Caller, Verify
from orchestrator.shared.artifact import DOCUMENTS
from orchestrator.verbs.registry import Session, Verb


def _parser() -> Parser:
    parser = Parser(
        "verify",
        "Check an image against its checksums, SBOM, provenance and signature beside it.",
        examples=(
            ("verify out/pi.img", "the files fit each other"),
            ("verify out/pi.img --key signer.pub", "this key has signed them"),
        ),
    )
    parser.add_argument("image", metavar="IMAGE")
    signer = parser.add_mutually_exclusive_group()
    signer.add_argument("--key", metavar="FILE", help="public SSH key that must have signed it")
    signer.add_argument(
        "--allowed-signers", metavar="FILE", help="allowed signers, in ssh-keygen(1)'s file format"
    )
    return parser


def _request(found: argparse.Namespace, who: Caller) -> Verify:
    def path(text: str | None) -> pathlib.PurePosixPath | None:
        return caller_path(text, who) if text is not None else None

    return Verify(caller_path(found.image, who), path(found.key), path(found.allowed_signers))


def _orders(request: Verify) -> Orders:
    signers = {"--key": request.key, "--allowed-signers": request.allowed_signers}
    return [
        ["send", "verify", os.fspath(request.image)],
        *(["send_result", "verify", f"{request.image}{suffix}"] for suffix in DOCUMENTS),
        *(["send", option, os.fspath(path)] for option, path in signers.items() if path),
    ]


def _work(request: Verify, _session: Session) -> int:
    from orchestrator.deliver.verify import verify

    sys.stderr.write(verify(request, sys.stdin.buffer))
    return 0


VERB = Verb(
    group="use images",
    shown=(("verify IMAGE", "check an image against its checksum, SBOM and signature"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
    takes_files=True,
)
