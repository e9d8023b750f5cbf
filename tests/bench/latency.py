"""A network's latency in front of a server on this machine, and the requests that went through it."""

import asyncio
import threading
import time

METHODS = (b"GET ", b"PUT ", b"HEAD ", b"DELETE ", b"POST ")
PIECE_BYTES = 1 << 20


class Latency:
    """Passes everything on, and holds back what clients send for some time: each request takes one round trip of that length."""

    def __init__(self, port, seconds):
        self.target, self.seconds = port, seconds
        # (when it was sent, its first line, bytes of its answer so far) of each request.
        self.requests = []
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def end(self):
        """Stops passing anything on."""
        asyncio.run_coroutine_threadsafe(self.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def close(self):
        """Ends all connections."""
        # asyncio tells of every stream that is cut.
        self.loop.set_exception_handler(lambda _loop, _what: None)
        self.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, reader, writer):
        """One connection of a client."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        # The request whose answer is coming: on one connection they follow one another.
        current = [None]
        there = self.there(reader, server_writer, current)
        back = self.back(server_reader, writer, current)
        await asyncio.gather(there, back, return_exceptions=True)

    async def there(self, reader, writer, current):
        """What the client sends, late."""
        while data := await reader.read(PIECE_BYTES):
            if data.startswith(METHODS):
                current[0] = [time.monotonic(), data.split(b"\r\n", 1)[0].decode("latin1"), 0]
                self.requests.append(current[0])
            await asyncio.sleep(self.seconds)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def back(self, reader, writer, current):
        """What the server answers, at once."""
        while data := await reader.read(PIECE_BYTES):
            if current[0]:
                current[0][2] += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()
