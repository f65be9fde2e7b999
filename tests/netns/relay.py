"""The far host: TCP ports that lead out of the namespace through Unix sockets, where the real merchants wait.

    relay.py DIR

Port 443 and 80 of the first address lead to DIR/merchant-443 and DIR/merchant-80, of the second to DIR/other-443 and
DIR/other-80. On the third a server speaks first, and says who has connected. Ends with whoever started it.
"""
import asyncio, os, pathlib, sys

folder = pathlib.Path(sys.argv[1])
PARENT = os.getppid()
ADDRESSES = {"merchant": ("198.51.100.20", "2001:db8:b::20"), "other": ("198.51.100.21", "2001:db8:b::21")}


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


def leads_to(path):
    async def serve(reader, writer):
        try:
            far = await asyncio.open_unix_connection(str(path))
        except OSError:
            return writer.close()
        await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
        writer.close()
        far[1].close()
    return serve


async def greet(reader, writer):
    writer.write(f"220 {writer.get_extra_info('peername')[0]}\r\n".encode())
    await writer.drain()
    writer.write(await reader.read(100))
    await writer.drain()
    writer.close()


async def main():
    for name, addresses in ADDRESSES.items():
        for port in (443, 80):
            await asyncio.start_server(leads_to(folder / f"{name}-{port}"), addresses, port)
    await asyncio.start_server(greet, ("198.51.100.22", "2001:db8:b::22"), 443)
    (folder / "relays.new").write_text(str(os.getpid()))
    (folder / "relays.new").rename(folder / "relays")
    while os.getppid() == PARENT:
        await asyncio.sleep(1)

asyncio.run(main())
