#!/usr/bin/python3
"""The feed of tools/demo as python3-websockets serves it, which shares no code with sluice.

Prints its port on stdout. After a client's first message (its subscription) it sends for --seconds:
--rate messages a second, and once a second --burst more, back to back. It PINGs once a second and
expects the PONG. At the end: an "end" message with the count, CLOSE, and a summary as JSON.
"""
import argparse
import asyncio
import json
import ssl
import sys
import time
import zlib

import websockets

TICK_S = 0.01
SYMBOLS = ["BTC-USD", "ETH-USD", "SOL-USD", "EUR-USD"]
PING_PAYLOAD = b"p" * 125  # the longest there is (RFC 6455, 5.5)


def server_context(options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    return context


def message(number):
    """One quote; crc covers what stands before it."""
    body = (f'{{"seq":{number},"ts_ns":{time.time_ns()},"sym":"{SYMBOLS[number % 4]}",'
            f'"px":{60000 + number % 977},"qty":{1 + number % 50}')
    return f'{body},"crc":{zlib.crc32(body.encode())}}}'


class Feed:
    def __init__(self, options):
        self.options = options
        self.sent = self.sent_bytes = self.received = self.pings = self.pongs = 0
        self.done = asyncio.Event()

    async def send(self, socket, count):
        for _ in range(count):
            text = message(self.sent)
            await socket.send(text)
            self.sent += 1
            self.sent_bytes += len(text)

    async def listen(self, socket):
        async for _ in socket:
            self.received += 1

    async def ping(self, socket):
        while True:
            self.pings += 1
            await (await socket.ping(self.pings.to_bytes(4, "big") + PING_PAYLOAD[4:]))
            self.pongs += 1
            await asyncio.sleep(1)

    async def quote(self, socket):
        began = time.monotonic()
        steady = bursts = 0
        while (past := time.monotonic() - began) < self.options.seconds:
            due = int(past * self.options.rate) - steady
            await self.send(socket, due)
            steady += due
            if past >= bursts + 0.5:
                await self.send(socket, self.options.burst)
                bursts += 1
            await asyncio.sleep(TICK_S)

    async def serve(self, socket):
        self.received += 1 if await socket.recv() else 0
        others = [asyncio.create_task(work(socket)) for work in (self.listen, self.ping)]
        try:
            await self.quote(socket)
            await socket.send(json.dumps({"end": self.sent}))
            await asyncio.sleep(0.2)  # what is on its way to us
        finally:
            others[1].cancel()
            await socket.close()
            await asyncio.gather(*others, return_exceptions=True)
            self.done.set()

    async def run(self):
        context = server_context(self.options) if self.options.cert else None
        async with websockets.serve(self.serve, "127.0.0.1", self.options.port, ssl=context,
                                    compression=None, ping_interval=None,
                                    max_queue=1024) as server:
            print(server.sockets[0].getsockname()[1], flush=True)
            try:
                await asyncio.wait_for(self.done.wait(), self.options.seconds + 60)
            except asyncio.TimeoutError:
                sys.exit("feed: no client subscribed and stayed to the end: nothing was checked")
        summary = {"sent": self.sent, "sent_bytes": self.sent_bytes, "received": self.received,
                   "pings": self.pings, "pongs": self.pongs}
        if self.options.summary:
            with open(self.options.summary, "w", encoding="ascii") as out:
                json.dump(summary, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: any, printed on stdout")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rate", type=int, default=2000, help="messages/s")
    parser.add_argument("--burst", type=int, default=2000, help="more messages, once a second")
    parser.add_argument("--cert", metavar="FILE", help="serve wss://: certificate and chain, PEM")
    parser.add_argument("--key", metavar="FILE", help="and its key")
    parser.add_argument("--summary", help="file for the counts, JSON")
    asyncio.run(Feed(parser.parse_args()).run())


if __name__ == "__main__":
    main()
