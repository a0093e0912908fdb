"""The mos command: one module per subcommand, loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys

_COMMANDS = {
    "flows": "one row per TCP connection of captures, with everything measured",
    "doctor": "say what this machine lacks for mos, and how to mend it",
}


def _usage() -> str:
    lines = [f"  {name:10} {sentence}" for name, sentence in _COMMANDS.items()]
    return "usage: mos COMMAND [OPTION...]\n\ncommands:\n" + "\n".join(lines) + "\n\nmos COMMAND --help tells more"


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand and return its exit code."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        from mos._ffi import lib, text

        print(f"mos {text(lib.mos_version())}, DPDK {text(lib.mos_dpdk_version())}")
        return 0
    if args[0] not in _COMMANDS:
        print(f"mos: there is no command {args[0]!r}\n{_usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"mos.cli.{args[0]}")
    return int(module.run(args[1:]))
