"""Passes TCP connections of the loopback interface on to a Unix socket. Arguments: the socket, a file for the port."""
import asyncio
import sys


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (ConnectionError, OSError):
        pass


async def main(path, port_file):
    async def serve(reader, writer):
        try:
            to_vmm = await asyncio.open_unix_connection(path)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, to_vmm[1]), copy(to_vmm[0], writer))
        to_vmm[1].close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with open(port_file, "w") as file:
        print(server.sockets[0].getsockname()[1], file=file)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
