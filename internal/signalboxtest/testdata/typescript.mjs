// typescript.mjs makes the calls of a table with the official TypeScript SDK and prints one JSON report. typescript_test.go runs it with the
// table's file as its argument and holds the report against what the table expects; nothing is judged here.
//
// A call: { name, do, key, as, headers, model, text, raw, path, retries, cues }. `cues` names the moments ("before", "retry", "delta") at which the
// test wants to change the world: the script then waits for the answer of POST cue?call=…&at=….
import { readFileSync } from 'node:fs';
import Anthropic, * as sdk from '@anthropic-ai/sdk';

const { baseURL, cue, calls } = JSON.parse(readFileSync(process.argv[2], 'utf8'));

async function reach(call, at) {
  if (!call.cues?.includes(at)) return;
  const answer = await fetch(`${cue}?call=${encodeURIComponent(call.name)}&at=${at}`, { method: 'POST' });
  if (!answer.ok) throw new Error(`the test failed at the cue ${at} of ${call.name}`);
}

// client is the SDK as a user makes it. Its documented option `fetch` is used for looking only: each request goes out as it is.
function client(call, tries) {
  const credential = call.as === 'authToken' ? { authToken: call.key } : call.as === 'x-api-key' ? {} : { apiKey: call.key };
  const defaultHeaders = { ...call.headers };
  if (call.as === 'x-api-key') Object.assign(defaultHeaders, { Authorization: null, 'X-Api-Key': call.key });
  if (call.as === 'none') Object.assign(defaultHeaders, { Authorization: null, 'X-Api-Key': null });
  return new Anthropic({
    apiKey: null,
    authToken: null,
    ...credential,
    baseURL,
    defaultHeaders,
    ...(call.retries === undefined ? {} : { maxRetries: call.retries }),
    fetch: async (url, init) => {
      if (tries.length > 0) await reach(call, 'retry');
      const entry = { status: 0, requestID: '' };
      tries.push(entry);
      const response = await fetch(url, init);
      entry.status = response.status;
      entry.requestID = response.headers.get('x-request-id') ?? '';
      entry.shouldRetry = response.headers.get('x-should-retry') ?? '';
      entry.retryAfter = response.headers.get('retry-after') ?? '';
      if (!response.ok) entry.text = await response.clone().text();
      return response;
    },
  });
}

const acts = {
  messages: (c, p) => c.messages.create(p),
  beta: (c, p) => c.beta.messages.create(p),
  count: (c, p) => c.messages.countTokens({ model: p.model, messages: p.messages }),
  models: async (c) => {
    const ids = [];
    for await (const model of c.models.list({ limit: 5 })) ids.push(model.id);
    return { ids, model: await c.models.retrieve(ids[0]) };
  },
  stream: async (c, p, call) => {
    const stream = c.messages.stream(p);
    const events = [];
    let text = '';
    stream.on('text', (piece) => (text += piece));
    for await (const event of stream) {
      events.push(event.type);
      if (event.type === 'content_block_delta') await reach(call, 'delta');
    }
    return { events, text, message: await stream.finalMessage() };
  },
  raw: (c, _, call) => c.post('/v1/messages', { body: call.raw, headers: { 'Content-Type': 'application/json' } }),
  get: (c, _, call) => c.get(call.path),
  post: (c, p, call) => c.post(call.path, { body: p }),
};

function told(error) {
  const classes = [];
  for (let at = Object.getPrototypeOf(error); at && at !== Object.prototype; at = Object.getPrototypeOf(at)) classes.push(at.constructor.name);
  return {
    classes,
    sdk: error instanceof sdk.AnthropicError,
    message: error.message,
    status: error.status ?? 0,
    requestID: error.requestID ?? '',
    body: error.error ?? null,
    headers: error.headers ? Object.fromEntries(error.headers) : {},
  };
}

const report = [];
for (const call of calls) {
  const tries = [];
  const entry = { name: call.name, tries };
  const text = call.text ?? 'Is the line clear?';
  const params = {
    model: call.model ?? 'claude-sonnet-x',
    max_tokens: 512,
    messages: [{ role: 'user', content: call.megabytes ? 'x'.repeat(call.megabytes << 20) : text }],
  };
  await reach(call, 'before');
  try {
    entry.value = await acts[call.do](client(call, tries), params, call);
  } catch (error) {
    entry.error = told(error);
  }
  report.push(entry);
}
process.stdout.write(JSON.stringify({ version: client({ key: 'k' }, []).getUserAgent?.() ?? '', calls: report }));
