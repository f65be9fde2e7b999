"""An official MCP client: starts a server, lists its tools, calls some, and says what came back, as JSON."""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters


async def call(client, tool, arguments):
    try:
        result = await client.call_tool(tool, arguments)
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}
    text = "".join(block.text for block in result.content if block.type == "text")
    return {"error": bool(result.is_error), "told": result.structured_content, "text": text}


async def main():
    wanted = json.load(sys.stdin)
    command, *arguments = wanted["command"]
    server = StdioServerParameters(command=command, args=arguments, env=wanted["env"])
    said = {}
    async with Client(server, mode=wanted["mode"], read_timeout_seconds=60) as client:
        said["version"] = client.protocol_version
        said["server"] = client.server_info.model_dump(mode="json")
        tools = (await client.list_tools()).tools
        said["tools"] = [tool.model_dump(mode="json", by_alias=True) for tool in tools]
        said["calls"] = [await call(client, tool, args) for tool, args in wanted["calls"]]
    json.dump(said, sys.stdout)


asyncio.run(main())
