#!/usr/bin/env python3
"""Retransmissions of every TCP connection, as they happen, and a table at the end.

    rexmit_monitor.py SOURCE [-f FILTER] [--json]

SOURCE is a capture file (pcap, pcapng, also .gz and .zst; "-" = standard input) or the name of a
network interface.  FILTER (pcap-filter syntax) is looked at once per connection, on its first SYN.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from datetime import datetime, timezone

import mos


class RexmitMonitor:
    """Counts retransmissions per flow; its callbacks run inside the loop of mos."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.rexmits = 0
        self.flows: dict[tuple[tuple[str, int], tuple[str, int]], list[int]] = {}

    def on_rexmit(self, mctx: mos.Context, sock: int, side: int, _event: int) -> None:
        """Print one line; `side` is the side that received the segment."""
        packet = mos.mtcp_getlastpkt(mctx, sock, side)
        client, server = mos.mtcp_getpeername(mctx, sock, mos.MOS_SIDE_BOTH)
        self.rexmits += 1
        count = self.flows.setdefault((client, server), [0, 0, 0])
        count[side] += 1
        count[2] += packet.payload_len
        receiver = "client" if side == mos.MOS_SIDE_CLI else "server"
        if self.as_json:
            self.line(
                type="rexmit",
                time_ns=packet.time_ns,
                client=client[0],
                client_port=client[1],
                server=server[0],
                server_port=server[1],
                side=receiver,
                seq=packet.seq,
                len=packet.payload_len,
            )
        else:
            time = f"{datetime.fromtimestamp(packet.time_ns // 10**9, timezone.utc):%H:%M:%S}"
            self.say(
                f"{time}.{packet.time_ns % 10**9 // 1000:06} {endpoint(client):>23} > {endpoint(server):<23} "
                f"to {receiver} seq {packet.seq} len {packet.payload_len} {packet.kind}"
            )

    @staticmethod
    def line(**fields: str | int) -> None:
        """Print one JSON line."""
        RexmitMonitor.say(json.dumps(fields, separators=(",", ":")))

    @staticmethod
    def say(line: str) -> None:
        """Write a line and its end at once, so that Ctrl-C cannot come between them."""
        sys.stdout.write(line + "\n")

    def summary(self, counters: dict[str, int]) -> None:
        """Print the table per flow and the total."""
        packets, flows = counters["received"], counters["flows_created"]
        if self.as_json:
            self.line(type="summary", packets=packets, flows=flows, rexmits=self.rexmits)
            return
        if self.flows:
            print(f"\n{'client':>23}   {'server':<23} {'to server':>9} {'to client':>9} {'bytes':>9}")
        for (client, server), (to_client, to_server, size) in self.flows.items():
            print(f"{endpoint(client):>23} > {endpoint(server):<23} {to_server:9} {to_client:9} {size:9}")
        print(f"\n{packets} packets, {flows} flows, {self.rexmits} retransmissions")
        lost = counters["port_dropped"]
        if lost:
            print(f"{lost} packets were dropped before this program got them", file=sys.stderr)


def endpoint(address: tuple[str, int]) -> str:
    """Write an address and port as one word."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def run(source: str, syn_filter: str | None, monitor: RexmitMonitor) -> int:
    """Watch the source to its end or to Ctrl-C."""
    status = 0
    mos.mtcp_init(source=source)
    m = mos.mtcp_create_context(0)
    try:
        s = mos.mtcp_socket(m, socket.AF_UNSPEC, mos.MOS_SOCK_MONITOR_STREAM, 0)
        mos.mtcp_bind_monitor_filter(m, s, mos.MonitorFilter(stream_syn_filter=syn_filter))
        mos.mtcp_register_callback(m, s, mos.MOS_ON_REXMIT, mos.MOS_HK_RCV, monitor.on_rexmit)
        mos.mtcp_app_join(m)
    except KeyboardInterrupt:
        status = 130
    except mos.SourceError as error:  # what was read before the fault counts
        print(f"rexmit_monitor: {error.strerror}", file=sys.stderr)
        status = 1
    finally:
        mos.mtcp_destroy()
    monitor.summary(mos.mtcp_getcounters(m))
    return status


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", help='capture file, "-", or network interface')
    parser.add_argument("-f", "--filter", help="which connections: pcap-filter syntax, on their first SYN")
    parser.add_argument("--json", action="store_true", help="JSON lines only")
    args = parser.parse_args()
    try:
        return run(args.source, args.filter, RexmitMonitor(as_json=args.json))
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError) as error:
        print(f"rexmit_monitor: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
