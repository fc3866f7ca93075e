"""`schemathesis` against /openapi.json: `make schemathesis`."""

from __future__ import annotations

from checks import check, main, target
from loads import run_program

TARGET = target()
MAX_EXAMPLES = 10
# Whatever is sent: no fault of ours, and nothing that the document does not say.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


@check
def no_answer_is_a_server_error_or_not_as_described():
    said = run_program(
        "schemathesis", "run", f"{TARGET.url}/openapi.json",
        "--header", f"Authorization: Bearer {TARGET.key}",
        "--checks", ",".join(CHECKS),
        "--phases", "examples,coverage,fuzzing",
        "--max-examples", str(MAX_EXAMPLES),
        "--request-timeout", "60",
        "--seed", "1",
        "--continue-on-failure",
        "--warnings", "off",
    )  # fmt: skip
    print(said[-600:])


main()
