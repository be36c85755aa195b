"""A DNS server that knows one name: `names.py NAME ADDRESS…`. Says where it listens, and serves until it is killed.

Each answer begins with another of the addresses, as those for a headless Service do, so that whoever only takes the
first one takes another one each time.
"""

from __future__ import annotations

import argparse
import itertools
import threading

from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer


class Names(BaseResolver):
    """Answers for one name, also where a search domain follows it."""

    def __init__(self, name: str, addresses: list[str]) -> None:
        self.name = name
        orders = [addresses[at:] + addresses[:at] for at in range(len(addresses))]
        self.orders = itertools.cycle(orders)

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """Its A records; nothing else is known of it, and nothing at all of other names."""
        del handler
        reply = request.reply()
        if str(request.q.qname).split(".")[0] != self.name:
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            for address in next(self.orders):
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=1))
        return reply


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("addresses", nargs="+")
    arguments = parser.parse_args()
    silent = DNSLogger("-request,-reply,-truncated,-error")
    resolver = Names(arguments.name, arguments.addresses)
    server = DNSServer(resolver, address="127.0.0.1", port=0, logger=silent)
    host, port = server.server.server_address
    print(f"{host}:{port}", flush=True)
    server.start_thread()
    threading.Event().wait()


if __name__ == "__main__":
    main()
