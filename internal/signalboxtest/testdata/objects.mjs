// objects.mjs makes a file and a batch with the official TypeScript SDK and uses both; it prints what it saw as JSON. objects_test.go judges.
//
// Usage: node objects.mjs BASE_URL KEY OTHER_URL
import Anthropic, { toFile } from '@anthropic-ai/sdk';

const [baseURL, apiKey, other] = process.argv.slice(2);
const at = (baseURL) => new Anthropic({ baseURL, apiKey, authToken: null, maxRetries: 0 });
const client = at(baseURL);
const second = at(other);
const told = {};

const file = await client.beta.files.upload({ file: await toFile(Buffer.from('the line is clear'), 'notes.txt', { type: 'text/plain' }) });
told.size = (await second.beta.files.retrieveMetadata(file.id)).size_bytes;
told.text = await (await second.beta.files.download(file.id)).text();
const read = await second.beta.messages.create({
  model: 'claude-x',
  max_tokens: 64,
  messages: [{ role: 'user', content: [{ type: 'document', source: { type: 'file', file_id: file.id } }, { type: 'text', text: 'What is it?' }] }],
});
told.read = read.content[0].text;

const params = { model: 'claude-x', max_tokens: 64, messages: [{ role: 'user', content: 'is the line clear?' }] };
const batch = await client.messages.batches.create({ requests: [{ custom_id: 'a', params }, { custom_id: 'b', params }] });
told.results = batch.results_url;
told.answers = [];
for await (const line of await client.messages.batches.results(batch.id)) told.answers.push(line.custom_id + ' ' + line.result.message.content[0].text);
told.elsewhere = (await second.messages.batches.retrieve(batch.id)).results_url;
told.batches = [];
for await (const b of client.messages.batches.list({ limit: 1 })) told.batches.push(b.id === batch.id);
for (let i = 0; i < 3; i++) await client.beta.files.upload({ file: await toFile(Buffer.from('x'.repeat(i + 1)), `${i}.txt`) });
told.files = [];
for await (const f of client.beta.files.list({ limit: 2 })) told.files.push(f.size_bytes);
await client.beta.files.delete(file.id);
try {
  await second.beta.files.retrieveMetadata(file.id);
} catch (e) {
  told.gone = `${e.constructor.name} ${e.status}`;
}
console.log(JSON.stringify(told));
