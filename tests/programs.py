"""Programs of the system that some tests run, and the packages of Debian that bring them.

A test names its programs with `@pytest.mark.needs("promtool")`. It is skipped if one is missing;
with MEDREWARD_ALL_TOOLS=1, which `.ci/run` sets, it fails. Run as a script, this module prints the
packages to install. It imports nothing but the standard library, so any Python runs it.
"""

import os
import shutil
import sys

PACKAGES = {
    "chromium": "chromium",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "podman": "podman",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-server": "redis-server",
}
"""Each program with its package."""

PACKAGES_FOR_IMAGES = {
    "aardvark-dns": "aardvark-dns",
    "buildah": "buildah",
    "catatonit": "catatonit",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "netavark": "netavark",
    "runc": "runc",
}
"""The same for `make images` alone. podman only recommends some of them, so they are named."""

HELPERS = "/usr/lib/podman"
"""Debian puts podman's network programs here, beside the PATH."""

OTHER_NAMES = {"chromium": "google-chrome"}


def found(program: str) -> str | None:
    """The path of a program, or None if it is missing."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), HELPERS))
    names = (program, OTHER_NAMES.get(program, program))
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def path_of(program: str) -> str:
    """The path of a program that the test's marker `needs` has already found."""
    path = found(program)
    assert path is not None, f"{program} is missing; mark the test with needs({program!r})"
    return path


def missing(*programs: str) -> str | None:
    """One sentence about the programs that are missing, with the package to install; None if all are there."""
    absent = [program for program in programs if found(program) is None]
    if not absent:
        return None
    packages = {(PACKAGES | PACKAGES_FOR_IMAGES)[program] for program in absent}
    return f"{' and '.join(absent)} not found: apt-get install {' '.join(sorted(packages))}"


def main(*, for_images: bool) -> None:
    """Print the packages of what is missing on this machine."""
    wanted = PACKAGES | (PACKAGES_FOR_IMAGES if for_images else {})
    lacking = {package for program, package in wanted.items() if found(program) is None}
    sys.stdout.write(" ".join(sorted(lacking)) + "\n")


if __name__ == "__main__":
    main(for_images="images" in sys.argv[1:])
