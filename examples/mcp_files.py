"""Give the tools of an MCP server to a model, from blocking code; this file is the server, too."""

import sys
from pathlib import Path
from typing import Literal


def main():
    from providers_sync import OpenAICompatible, ToolResult, mcp
    from providers_sync.gateway import serve

    with mcp(sys.executable, __file__, "serve") as tools, serve(engine="echo") as gateway:
        provider = OpenAICompatible("echo", base_url=gateway.url("openai"))
        run = provider.run("Read stream.py", tools=tools, tool_choice="required")
        for event in run.events():
            if isinstance(event, ToolResult):
                print(f"{event.name}: {event.content}")
        print(run.text)


def run_server():
    """Run an MCP server that reads the examples; any other server works as well."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("examples", log_level="ERROR")

    @server.tool(structured_output=False)
    def first_line(name: Literal["stream.py", "cancel.py"]) -> str:
        """Return the first line of an example."""
        return Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()[0]

    server.run()


run_server() if sys.argv[1:] == ["serve"] else main()
