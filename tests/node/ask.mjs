// Asks a gateway over gRPC: node ask.mjs HOST:PORT. Prints one JSON object; ends with 1 if anything is amiss.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const protos = fileURLToPath(new URL("../../protos", import.meta.url));
const definition = protoLoader.loadSync("tokenmill/v1/inference.proto", {
  includeDirs: [protos],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { InferenceService } = grpc.loadPackageDefinition(definition).tokenmill.v1;

const serviceConfig = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: "tokenmill.v1.InferenceService" }],
      timeout: "60s",
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.2s",
        maxBackoff: "5s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};
const client = new InferenceService(process.argv[2], grpc.credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify(serviceConfig),
});
const metadata = new grpc.Metadata();
if (process.env.TOKENMILL_API_KEY) {
  metadata.set("authorization", `Bearer ${process.env.TOKENMILL_API_KEY}`);
}

function listModels() {
  return new Promise((resolve, reject) => {
    client.ListModels({}, metadata, (error, reply) => (error ? reject(error) : resolve(reply.models)));
  });
}

async function chat(text) {
  const call = client.Chat(
    {
      messages: [{ role: "user", content: text }],
      sampling: { max_tokens: 8, temperature: 0, ignore_eos: true },
    },
    metadata,
  );
  const parts = [];
  for await (const part of call) parts.push(part);
  return parts;
}

async function refusal() {
  const call = client.Generate({ prompt: "a", sampling: { temperature: -1 } }, metadata);
  try {
    for await (const _ of call);
  } catch (error) {
    return grpc.status[error.code];
  }
  return "OK";
}

const models = await listModels();
const parts = await chat("Name three colours.");
const last = parts.at(-1);
const report = {
  models: models.map((model) => model.name),
  num_parts: parts.length,
  text: parts.map((part) => part.text).join(""),
  finish_reason: last.finish_reason,
  usage: last.usage,
  refusal: await refusal(),
};
console.log(JSON.stringify(report));
client.close();
const isFine =
  report.models.length > 0 &&
  report.num_parts > 1 &&
  report.finish_reason === "FINISH_REASON_LENGTH" &&
  report.usage.completion_tokens === 8 &&
  report.refusal === "INVALID_ARGUMENT";
process.exitCode = isFine ? 0 : 1;
