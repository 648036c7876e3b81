"""JUnit's XML of a command: what a CI server shows as tests."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from edgekit.escapes import visible
from edgekit.results.checks import Check


def junit(suite: str, checks: Sequence[Check], seconds: float) -> str:
    """A test suite with a test case for each check; one that does not hold is a failure, one that could not be looked
    at an error.

    https://github.com/testmoapp/junitxml
    """
    bad = [check for check in checks if check.failure]
    counts = {
        "tests": len(checks),
        "failures": sum(not check.broken for check in bad),
        "errors": sum(check.broken for check in bad),
    }
    attributes = {name: str(count) for name, count in counts.items()} | {"time": f"{seconds:.3f}"}
    root = ET.Element("testsuites", attributes)
    inside = ET.SubElement(root, "testsuite", {"name": suite, **attributes})
    for check in checks:
        case = ET.SubElement(inside, "testcase", {"classname": suite, "name": visible(check.name)})
        if check.failure:
            said = visible(check.failure)
            kind = ET.SubElement(case, "error" if check.broken else "failure", {"message": said.splitlines()[0]})
            kind.text = said
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
