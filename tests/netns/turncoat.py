"""A resolver on port 53 of its host that tells each IPv4 question another address than the one before, and a server on
port 80 of loopback that nobody should ever reach.

    turncoat.py ADDRESS...

Says "ready", then every answer given, and "reached" for every connection to the server. Ends with its stdin.
"""
import asyncio, itertools, socket, struct, sys

addresses = itertools.cycle(sys.argv[1:])


class Resolver(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, asked, peer):
        end = asked.index(b"\0", 12) + 5
        question, kind = asked[12:end], struct.unpack("!H", asked[end - 4:end - 2])[0]
        answer = b""
        if kind == 1:
            address = next(addresses)
            print(address, flush=True)
            # A pointer to the name, then type, class, no time to live, and the address.
            answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
        head = asked[:2] + struct.pack("!HHHHH", 0x8180, 1, bool(answer), 0, 0)
        self.transport.sendto(head + question + answer, peer)


async def reached(reader, writer):
    print("reached", flush=True)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret")
    writer.close()


async def main():
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Resolver, local_addr=("127.0.0.1", 53))
    await asyncio.start_server(reached, "127.0.0.1", 80)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)

asyncio.run(main())
