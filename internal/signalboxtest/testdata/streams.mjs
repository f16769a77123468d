// streams.mjs opens many streams at once with the official TypeScript SDK and prints one line of JSON for each when it has ended: what it was told, and
// how it ended. Before that, one line that says "begun" for each of which the first event has come. balancer_test.go runs it and judges.
//
// Usage: node streams.mjs BASE_URL KEY MODEL COUNT
import Anthropic from '@anthropic-ai/sdk';

const [baseURL, apiKey, model, count] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, authToken: null, maxRetries: 0 });

async function one(n) {
  const told = { request: '', upstream: '', served: '', pieces: 0, whole: false, failed: '' };
  try {
    const { data, response } = await client.messages
      .create({ model, max_tokens: 512, stream: true, messages: [{ role: 'user', content: `typescript ${n} ${'x'.repeat(n % 97)}` }] })
      .withResponse();
    told.request = response.headers.get('x-request-id') ?? '';
    told.upstream = response.headers.get('request-id') ?? '';
    told.served = response.headers.get('x-served-by') ?? '';
    let first = true;
    for await (const event of data) {
      if (first) console.log('"begun"');
      first = false;
      if (event.type === 'content_block_delta') told.pieces++;
      if (event.type === 'message_stop') told.whole = true;
    }
  } catch (e) {
    told.failed = `${e.constructor.name}: ${e.message}`;
  }
  console.log(JSON.stringify(told));
}

await Promise.all(Array.from({ length: Number(count) }, (_, n) => one(n)));
