// Anthropic's npm package against servers with the small model: node anthropic_node.mjs URL TOOLS_URL. The second has a template that takes tools.
import assert from "node:assert";
import Anthropic from "@anthropic-ai/sdk";

const [url, toolsUrl] = process.argv.slice(2);
const client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
const caller = new Anthropic({ baseURL: toolsUrl, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Tell me a story about a cat." }];
const greedy = { model: "bise", max_tokens: 24, messages, temperature: 0 };

const whole = await client.messages.create(greedy);
assert.deepEqual([whole.role, whole.stop_reason, whole.usage.output_tokens], ["assistant", "max_tokens", 24]);
const stream = client.messages.stream(greedy);
let text = "";
stream.on("text", (delta) => { text += delta; });
const final = await stream.finalMessage();
assert.deepEqual([text, final.content[0].text, final.stop_reason], [whole.content[0].text, whole.content[0].text, "max_tokens"]);
const { input_tokens } = await client.messages.countTokens({ model: "bise", messages });
assert.equal(input_tokens, whole.usage.input_tokens + whole.usage.cache_read_input_tokens);
const listed = await client.models.list();
assert.equal((await client.models.retrieve(listed.data[0].id)).max_input_tokens, 2048);

const input_schema = { type: "object", properties: { a: { enum: [1, 2] } }, required: ["a"], additionalProperties: false };
const ask = { ...greedy, max_tokens: 200, tools: [{ name: "add", input_schema }], tool_choice: { type: "any", disable_parallel_tool_use: true } };
const called = await caller.messages.create(ask);
assert.deepEqual([called.stop_reason, called.content.at(-1).type, called.content.at(-1).name], ["tool_use", "tool_use", "add"]);
assert.deepEqual((await caller.messages.stream(ask).finalMessage()).content.at(-1).input, called.content.at(-1).input);
// A call that is cut has what is complete of its input, and no text is made of it.
for (const max_tokens of [1, 8, 14, 20]) {
  const cut = await caller.messages.create({ ...ask, max_tokens });
  if (cut.stop_reason === "max_tokens") assert.ok(cut.content.every((block) => block.type === "tool_use" || block.text === ""), JSON.stringify(cut.content));
}

await assert.rejects(client.messages.create({ ...greedy, max_tokens: -1 }), (error) => error instanceof Anthropic.BadRequestError && error.error.error.type === "invalid_request_error");
await assert.rejects(client.models.retrieve("nobody"), (error) => error instanceof Anthropic.NotFoundError && error.requestID !== null);
console.log("anthropic (npm): all is well");
