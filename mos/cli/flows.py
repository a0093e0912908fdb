"""mos flows: one row per TCP connection.

The rows are rendered by the core when a flow leaves the table; no Python runs per packet.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mos

_HEAD = (
    f"{'client':24} {'server':24} {'duration':>11} {'handshake':>12} {'packets':>8} {'back':>8} "
    f"{'bytes':>12} {'back':>12} {'rexmit':>6} {'back':>6}  end"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mos flows", description="One row per TCP connection, written when it is over."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help='captures, merged by time; "-" is standard input')
    parser.add_argument("-f", "--filter", help="which connections: pcap-filter syntax, on their first SYN")
    parser.add_argument("--hash", action="store_true", help="add the SHA-256 of each direction's delivered stream")
    parser.add_argument("--midstream", action="store_true", help="also connections whose SYN was not captured")
    parser.add_argument("--json", action="store_true", help="JSON lines; docs/flows.md describes the fields")
    parser.add_argument("--verify-checksums", action="store_true", help="leave out packets with a wrong checksum")
    return parser


@contextlib.contextmanager
def _progress(context: mos.Context) -> Iterator[Callable[[], object]]:
    """Show a bar on standard error when it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=context.progress()[1] or None)
        yield lambda: bar.update(task, completed=context.progress()[0])


def _run(args: argparse.Namespace, out: Any) -> int:
    mos.mtcp_init(source=args.files, midstream=args.midstream, verify_checksums=args.verify_checksums)
    context = mos.mtcp_create_context(0)
    try:
        listening = mos.mtcp_socket(context, socket.AF_UNSPEC, mos.MOS_SOCK_MONITOR_STREAM, 0)
        mos.mtcp_bind_monitor_filter(context, listening, mos.MonitorFilter(stream_syn_filter=args.filter))
        context.rows_on(as_json=args.json, hashes=args.hash)
        if not args.json:
            out.write(f"{_HEAD}\n".encode())
        with _progress(context) as show:
            context.run(lambda: (out.write(context.rows()), show()))
    except KeyboardInterrupt:
        with contextlib.suppress(KeyboardInterrupt):
            context.finish(mos.MOS_END_SHUTDOWN)
        return 130
    except mos.SourceError as error:
        print(f"mos flows: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        out.write(context.rows())
        out.flush()
        mos.mtcp_destroy()
    return 0


def run(argv: list[str]) -> int:
    """Run the subcommand: 0 = fine, 1 = the input broke off (rows so far are written), 2 = wrong use."""
    args = _parser().parse_args(argv)
    try:
        return _run(args, sys.stdout.buffer)
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError) as error:
        print(f"mos flows: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2
