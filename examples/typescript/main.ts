// Sends one trace to weir over Ingest and prints the ids that weir gave it.
// WEIR_GRPC is weir's address, LANGSMITH_API_KEY an optional key. The types in
// gen/ are generated from ../../proto by "npm run build".

import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

import type { ProtoGrpcType } from './gen/ingest.js';
import type { IngestRequest } from './gen/weir/v1/IngestRequest.js';
import type { IngestResponse__Output } from './gen/weir/v1/IngestResponse.js';
import type { ItemResult__Output } from './gen/weir/v1/ItemResult.js';
import type { Json } from './gen/weir/v1/Json.js';
import type { Operation } from './gen/weir/v1/Operation.js';

const TIMEOUT_MS = 20_000;

// Seen from dist/, where this file runs.
const PROTO_DIR = fileURLToPath(new URL('../../../proto', import.meta.url));

const loaded = loadSync('weir/v1/ingest.proto', { includeDirs: [PROTO_DIR], longs: String, defaults: true });
const { weir } = grpc.loadPackageDefinition(loaded) as unknown as ProtoGrpcType;

const client = new weir.v1.IngestService(
  process.env.WEIR_GRPC || '127.0.0.1:4317',
  grpc.credentials.createInsecure(),
);
const metadata = new grpc.Metadata();
if (process.env.LANGSMITH_API_KEY) metadata.set('x-api-key', process.env.LANGSMITH_API_KEY);

const ingest = promisify((request: IngestRequest, done: grpc.requestCallback<IngestResponse__Output>) => {
  client.ingest(request, metadata, { deadline: Date.now() + TIMEOUT_MS }, done);
});

// send takes any refusal for an error.
async function send(...operations: Operation[]): Promise<ItemResult__Output[]> {
  const results = (await ingest({ operations }))?.results ?? [];
  if (results.length !== operations.length) {
    throw new Error(`${results.length} results for ${operations.length} operations`);
  }
  for (const { index, error } of results) {
    if (error) throw new Error(`operation ${index} is refused: ${JSON.stringify(error)}`);
  }
  return results;
}

function now() {
  const ms = Date.now();
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
}

function text(value: unknown): Json {
  return { text: Buffer.from(JSON.stringify(value)) };
}

// sendTrace sends a chain with a call of a model inside, then how they ended.
async function sendTrace() {
  const [root] = await send({
    create: {
      name: 'answer-question',
      runType: 'chain',
      startTime: now(),
      inputs: text({ question: 'What does a weir do?' }),
      tags: ['example', 'typescript'],
    },
  });
  // weir takes trace_id and dotted_order from the parent.
  const [llm] = await send({
    create: {
      parentRunId: root.id,
      name: 'chat-model',
      runType: 'llm',
      startTime: now(),
      inputs: text({ messages: [{ role: 'user', content: 'What does a weir do?' }] }),
    },
  });
  const rest = await send(
    {
      update: {
        id: llm.id,
        endTime: now(),
        outputs: text({ role: 'assistant', content: 'It holds back a river.' }),
      },
    },
    { update: { id: root.id, endTime: now(), outputs: text({ answer: 'It holds back a river.' }) } },
    {
      attachment: {
        runId: root.id,
        name: 'notes',
        contentType: 'text/plain',
        content: Buffer.from('A weir is a low dam.\n'),
      },
    },
    { feedback: { runId: root.id, key: 'correctness', score: 1 } },
  );
  console.log(`trace ${root.traceId} root ${root.id} llm ${llm.id} feedback ${rest[3].id}`);
}

try {
  await sendTrace();
} catch (err) {
  console.error(`typescript: ${err instanceof Error ? err.message : err}`);
  process.exitCode = 1;
} finally {
  client.close();
}
