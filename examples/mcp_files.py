"""Call the tools of an MCP server from blocking code; this file is the server, too."""

import sys
from pathlib import Path


def main():
    from providers_sync.tools import mcp

    with mcp(sys.executable, __file__, "serve") as tools:
        for tool in tools:
            print(f"{tool.name}: {tool.description}")
        print(tools[0].function(name="stream.py"))


def serve():
    """Run an MCP server that reads the examples; any other server works as well."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("examples", log_level="ERROR")

    @server.tool(structured_output=False)
    def first_line(name: str) -> str:
        """Return the first line of an example."""
        return Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()[0]

    server.run()


serve() if sys.argv[1:] == ["serve"] else main()
