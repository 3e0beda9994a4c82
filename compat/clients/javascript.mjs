// The npm package `openai`, and the AI SDK with `@ai-sdk/openai-compatible`: the same checks as of the Python
// clients, whose harness.py says what they are.

import assert from 'node:assert/strict';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import {
  APICallError, embed, generateText, jsonSchema, Output, stepCountIs, streamText, tool,
} from 'ai';
import OpenAI from 'openai';

const url = `${process.env.GOGRID_URL ?? 'http://127.0.0.1:11711'}/v1`;
const model = process.env.GOGRID_MODEL ?? 'smollm2-135m';
const toolModel = process.env.GOGRID_TOOL_MODEL ?? model;
const noModel = 'no-such-model';
const question = 'Name three colours.';
const askWeather = 'What is the weather in Paris, in celsius?';
const askPerson = 'Invent a person: a name and an age.';
const tooLong = 'word '.repeat(4000);

const weatherSchema = {
  type: 'object',
  properties: {
    city: { type: 'string', minLength: 1, maxLength: 24 },
    unit: { type: 'string', enum: ['celsius', 'fahrenheit'] },
  },
  required: ['city', 'unit'],
  additionalProperties: false,
};
const personSchema = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 20 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
  },
  required: ['name', 'age'],
  additionalProperties: false,
};

async function run(client, checks) {
  for (const [check, body] of Object.entries(checks)) {
    const begun = performance.now();
    const [result, reason] = await outcome(body);
    const seconds = Math.round(performance.now() - begun) / 1000;
    console.log(JSON.stringify({ client, check, result, reason, seconds }));
  }
}

async function outcome(check) {
  try {
    await check();
    return ['ok', ''];
  } catch (error) {
    const text = `${error?.name ?? 'error'}: ${error?.message ?? error}`.split(/\s+/).join(' ');
    console.error(text);
    return ['failed', text.slice(0, 400)];
  }
}

const checkText = (text) => assert.ok(typeof text === 'string' && text.trim(), `expected text, got ${text}`);

function checkUsage(prompt, completion, total) {
  assert.ok(prompt > 0 && completion > 0, `tokens ${prompt}, ${completion}`);
  assert.equal(total, prompt + completion);
}

function checkCall(name, value) {
  assert.equal(name, 'get_weather');
  assert.deepEqual(Object.keys(value).sort(), ['city', 'unit']);
  assert.ok(value.city.length >= 1 && value.city.length <= 24, `city ${value.city}`);
  assert.ok(['celsius', 'fahrenheit'].includes(value.unit), `unit ${value.unit}`);
}

function checkPerson(value) {
  assert.deepEqual(Object.keys(value).sort(), ['age', 'name']);
  assert.ok(value.name.length >= 1 && value.name.length <= 20, `name ${value.name}`);
  assert.ok(Number.isInteger(value.age) && value.age >= 0 && value.age <= 120, `age ${value.age}`);
}

async function collected(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

// The npm package.

const openai = new OpenAI({ baseURL: url, apiKey: 'none', maxRetries: 0, timeout: 120_000 });
const weatherFunction = { name: 'get_weather', description: 'Tells the weather of a city.', parameters: weatherSchema };

const ask = (more) => openai.chat.completions.create({
  model, messages: [{ role: 'user', content: question }], max_tokens: 24, temperature: 0, ...more,
});
const weather = (more) => ask({
  model: toolModel,
  messages: [{ role: 'user', content: askWeather }],
  tools: [{ type: 'function', function: weatherFunction }],
  tool_choice: 'required',
  max_tokens: 96,
  ...more,
});

const npmOpenai = {
  chat: async () => {
    const { choices: [choice] } = await ask();
    checkText(choice.message.content);
    assert.ok(['stop', 'length'].includes(choice.finish_reason), choice.finish_reason);
  },
  stream: async () => {
    const choices = (await collected(await ask({ stream: true }))).map((chunk) => chunk.choices[0]);
    const text = choices.map((choice) => choice.delta.content ?? '').join('');
    assert.equal(text, (await ask()).choices[0].message.content);
    assert.ok(['stop', 'length'].includes(choices.at(-1).finish_reason), 'it ends with a reason');
  },
  usage: async () => {
    const { usage } = await ask();
    checkUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens);
    const chunks = await collected(await ask({ stream: true, stream_options: { include_usage: true } }));
    assert.equal(chunks.at(-1).usage.total_tokens, usage.total_tokens);
  },
  tools: async () => {
    const { choices: [{ message, finish_reason: reason }] } = await weather();
    assert.equal(reason, 'tool_calls');
    const [call] = message.tool_calls;
    checkCall(call.function.name, JSON.parse(call.function.arguments));
    const result = { role: 'tool', tool_call_id: call.id, content: '18 degrees, dry' };
    const messages = [{ role: 'user', content: askWeather }, message, result];
    checkText((await weather({ messages, tool_choice: 'none' })).choices[0].message.content);
  },
  'streamed tools': async () => {
    const runner = openai.chat.completions.stream({
      model: toolModel,
      messages: [{ role: 'user', content: askWeather }],
      tools: [{ type: 'function', function: weatherFunction }],
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
      max_tokens: 96,
      temperature: 0,
    });
    const [call] = (await runner.finalChatCompletion()).choices[0].message.tool_calls;
    checkCall(call.function.name, JSON.parse(call.function.arguments));
  },
  schema: async () => {
    const answer = await openai.chat.completions.parse({
      model,
      messages: [{ role: 'user', content: askPerson }],
      response_format: { type: 'json_schema', json_schema: { name: 'person', schema: personSchema, strict: true } },
      max_tokens: 96,
      temperature: 0,
    });
    checkPerson(JSON.parse(answer.choices[0].message.content));
  },
  'unknown model': () => assert.rejects(ask({ model: noModel }), OpenAI.NotFoundError),
  overflow: () => assert.rejects(
    ask({ messages: [{ role: 'user', content: tooLong }] }),
    (error) => error instanceof OpenAI.BadRequestError && error.code === 'context_length_exceeded',
  ),
  embeddings: () => assert.rejects(
    openai.embeddings.create({ model, input: 'a text' }),
    OpenAI.BadRequestError,
  ),
};

// The AI SDK, as opencode and Cline use it.

const provider = createOpenAICompatible({
  name: 'gogrid', baseURL: url, apiKey: 'none', includeUsage: true, supportsStructuredOutputs: true,
});
const plain = { maxRetries: 0, temperature: 0, maxOutputTokens: 24 };
const asked = { ...plain, model: provider(model), prompt: question };
const weatherTool = tool({
  description: 'Tells the weather of a city.',
  inputSchema: jsonSchema(weatherSchema),
  execute: async () => '18 degrees, dry',
});
const askedWeather = {
  ...plain, maxOutputTokens: 96, model: provider(toolModel), prompt: askWeather, tools: { get_weather: weatherTool },
};
const required = { ...askedWeather, toolChoice: 'required' };
// It throws away errors of a stream unless it is given a place for them.
const streamed = (settings) => {
  const errors = [];
  const result = streamText({ ...settings, onError: ({ error }) => errors.push(error) });
  return { result, errors };
};
const hasStatus = (status) => (error) => APICallError.isInstance(error) && error.statusCode === status;

const aiSdk = {
  chat: async () => {
    const { text, finishReason } = await generateText(asked);
    checkText(text);
    assert.ok(['stop', 'length'].includes(finishReason), finishReason);
  },
  stream: async () => {
    const { result, errors } = streamed(asked);
    const text = (await collected(result.textStream)).join('');
    assert.deepEqual(errors, []);
    assert.equal(text, (await generateText(asked)).text);
    assert.ok(['stop', 'length'].includes(await result.finishReason));
  },
  usage: async () => {
    const { usage } = await generateText(asked);
    checkUsage(usage.inputTokens, usage.outputTokens, usage.totalTokens);
    const { result } = streamed(asked);
    await result.consumeStream();
    assert.equal((await result.usage).totalTokens, usage.totalTokens);
  },
  tools: async () => {
    // The first step must call; the second is free to answer.
    const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? 'required' : 'none' });
    const { steps } = await generateText({ ...askedWeather, prepareStep, stopWhen: stepCountIs(2) });
    const [call] = steps[0].toolCalls;
    checkCall(call.toolName, call.input);
    assert.equal(steps[0].finishReason, 'tool-calls');
    assert.equal(steps.length, 2);
    checkText(steps[1].text);
  },
  'streamed tools': async () => {
    const { result, errors } = streamed(required);
    await result.consumeStream();
    assert.deepEqual(errors, []);
    const [call] = await result.toolCalls;
    checkCall(call.toolName, call.input);
    const [whole] = (await generateText(required)).toolCalls;
    assert.deepEqual(call.input, whole.input);
  },
  schema: async () => {
    const settings = { ...plain, maxOutputTokens: 96, model: provider(model), prompt: askPerson };
    const { output } = await generateText({ ...settings, output: Output.object({ schema: jsonSchema(personSchema) }) });
    checkPerson(output);
  },
  'unknown model': () => assert.rejects(generateText({ ...asked, model: provider(noModel) }), hasStatus(404)),
  overflow: () => assert.rejects(
    generateText({ ...asked, prompt: tooLong }),
    (error) => hasStatus(400)(error) && error.responseBody.includes('context_length_exceeded'),
  ),
  embeddings: () => assert.rejects(
    embed({ model: provider.textEmbeddingModel(model), value: 'a text', maxRetries: 0 }),
    hasStatus(400),
  ),
};

await run('npm openai', npmOpenai);
await run('@ai-sdk/openai-compatible', aiSdk);
