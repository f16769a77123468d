// mcp.mjs speaks to an MCP server with the official TypeScript SDK's client, unmodified, and prints one JSON report. mcp_test.go runs it and judges.
import { readFileSync } from 'node:fs';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';

const { url, token, cue } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const client = new Client({ name: 'agent', version: '1' });
const changed = new Promise((resolve) => client.setNotificationHandler(ToolListChangedNotificationSchema, resolve));
const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
await client.connect(transport);
const report = { session: transport.sessionId, tools: (await client.listTools()).tools.map((t) => t.name) };
report.said = (await client.callTool({ name: 'echo', arguments: { text: 'planted-argument' } })).content[0].text;
await fetch(cue, { method: 'POST' }); // the test adds a tool
await changed;
report.later = (await client.listTools()).tools.map((t) => t.name);
await transport.terminateSession();
try {
  await client.listTools();
  report.after = 'went on';
} catch (e) {
  report.after = String(e.code ?? e.message);
}
await client.close();
console.log(JSON.stringify(report));
