"""Every span, attribute and metric name. Semantic conventions first, else `tokenmill.`.

The gen_ai names are ours to keep: the published Python constants are marked as moved.
"""

from __future__ import annotations

# Spans inside a process. RPC spans bear their method, bus spans operation and destination.
SPAN_SCHEDULER_PLACE = "scheduler.place"
SPAN_SCHEDULER_BATCH = "scheduler.batch"
SPAN_GATEWAY_LIMITS = "gateway.limits"
SPAN_WORKER_REQUEST = "worker.request"
SPAN_ENGINE_STEP = "engine.step"
SPAN_ENGINE_PREFILL = "engine.prefill"
SPAN_ENGINE_DECODE = "engine.decode"
SPAN_CACHE_FETCH = "cache.fetch"
SPAN_CACHE_OFFER = "cache.offer"

# OpenTelemetry GenAI.
GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
GEN_AI_PROVIDER = "tokenmill"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_TEMPERATURE = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_P = "gen_ai.request.top_p"
GEN_AI_REQUEST_TOP_K = "gen_ai.request.top_k"
GEN_AI_REQUEST_STREAM = "gen_ai.request.stream"
GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_CONVERSATION_ID = "gen_ai.conversation.id"

# OpenTelemetry RPC: the status attribute is between two names, so both are set.
RPC_SYSTEM_NAME = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS_CODE = "rpc.status_code"
RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code"
SERVER_ADDRESS = "server.address"
ERROR_TYPE = "error.type"

# OpenTelemetry HTTP.
HTTP_REQUEST_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
URL_PATH = "url.path"

# OpenTelemetry messaging.
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE = "messaging.destination.template"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_CONSUMER_GROUP = "messaging.consumer.group.name"
DEAD_LETTERS_TEMPLATE = "tokenmill.dead_letters.{model}.{band}"
REQUESTS_TEMPLATE = "tokenmill.requests.{model}.{lane}"

# Ours.
REQUEST_ID = "tokenmill.request.id"
ATTEMPT = "tokenmill.request.attempt"
REQUEST_CLASS = "tokenmill.request.class"
WORKER_ID = "tokenmill.worker.id"
BATCH_SIZE = "tokenmill.batch.size"
BUDGET_WASTE = "tokenmill.batch.prefill_budget_waste"
QUEUE_WAIT_MS = "tokenmill.queue.wait_ms"
NUM_STEPS = "tokenmill.engine.num_steps"
NUM_TOKENS = "tokenmill.num_tokens"
NUM_BLOCKS = "tokenmill.num_blocks"
NUM_PREEMPTIONS = "tokenmill.num_preemptions"
OUTCOME = "tokenmill.outcome"
# Of a link from a step to a request in it: its own tokens, and which kind they were.
STEP_PHASE = "tokenmill.step.phase"
PLACEMENT_STARTED_NS = "tokenmill.placement.started_ns"
# Of each worker with room: name, cost in seconds, prompt tokens to compute; the least cost first.
PLACEMENT_WORKERS = "tokenmill.placement.workers"
PLACEMENT_COSTS_S = "tokenmill.placement.costs_s"
PLACEMENT_MISSING_TOKENS = "tokenmill.placement.missing_tokens"
# Why it waited in a scheduler's hand.
NUM_BEFORE_BY_CLASS = "tokenmill.queue.num_before_by_class"
NUM_BEFORE_BY_TURN = "tokenmill.queue.num_before_by_turn"
NO_ROOM_MS = "tokenmill.queue.no_room_ms"
NUM_PREFILL_TOKENS = "tokenmill.engine.prefill_tokens"
# Unix time in ns: arrived, ready, taken; of a slow gap, first when the piece before was taken.
STREAM_FIRST_NS = "tokenmill.stream.first_ns"
STREAM_LAST_NS = "tokenmill.stream.last_ns"
STREAM_SLOW_GAPS_NS = "tokenmill.stream.slow_gaps_ns"

# Metrics (Prometheus names; those of OpenTelemetry by its rule: dots to _, unit appended). What
# each means is in docs/metrics.md.
METRIC_RPC_SERVER_DURATION = "rpc_server_call_duration_seconds"
METRIC_RPC_CLIENT_DURATION = "rpc_client_call_duration_seconds"
METRIC_BUS_OPERATION_DURATION = "messaging_client_operation_duration_seconds"
METRIC_BUS_PROCESS_DURATION = "messaging_process_duration_seconds"
METRIC_BUS_SENT = "messaging_client_sent_messages"
METRIC_BUS_CONSUMED = "messaging_client_consumed_messages"
METRIC_HTTP_DURATION = "http_server_request_duration_seconds"
METRIC_REQUEST_DURATION = "gen_ai_server_request_duration_seconds"
METRIC_TIME_TO_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"
METRIC_TIME_PER_OUTPUT_TOKEN = "gen_ai_server_time_per_output_token_seconds"
METRIC_TOKENS = "tokenmill_gateway_tokens"
METRIC_REQUESTS_RUNNING = "tokenmill_gateway_requests_running"
METRIC_REQUESTS_QUEUED = "tokenmill_gateway_requests_queued"
METRIC_REQUESTS_REFUSED = "tokenmill_gateway_requests_refused"
METRIC_TENANT_REQUESTS = "tokenmill_gateway_tenant_requests"
METRIC_TENANT_TOKENS = "tokenmill_gateway_tenant_tokens"
METRIC_ATTEMPTS_PAUSED = "tokenmill_gateway_attempts_paused"
METRIC_RESULT_CACHE = "tokenmill_gateway_result_cache"
METRIC_ATTEMPTS_LOST = "tokenmill_gateway_attempts_lost"
METRIC_WORKERS_CONNECTED = "tokenmill_gateway_workers_connected"
METRIC_QUEUE_DEPTH = "tokenmill_scheduler_queue_depth"
METRIC_QUEUE_DRAIN_RATE = "tokenmill_scheduler_queue_drain_rate"
METRIC_QUEUE_WAIT = "tokenmill_scheduler_queue_wait_seconds"
METRIC_REQUESTS_HELD = "tokenmill_scheduler_requests_held"
METRIC_DESIRED_WORKERS = "tokenmill_scheduler_desired_workers"
METRIC_WORKERS_READY = "tokenmill_scheduler_workers_ready"
METRIC_SETTLED = "tokenmill_scheduler_requests_settled"
METRIC_PLACE_SECONDS = "tokenmill_scheduler_place_seconds"
METRIC_PLACED_TOKENS = "tokenmill_scheduler_placed_prompt_tokens"
METRIC_SUBMISSION_SIZE = "tokenmill_scheduler_submission_requests"
METRIC_BUDGET_WASTE = "tokenmill_scheduler_prefill_budget_waste"
METRIC_STEP_SECONDS = "tokenmill_worker_step_seconds"
METRIC_STEP_SEQUENCES = "tokenmill_worker_step_sequences"
METRIC_STEP_TOKENS = "tokenmill_worker_step_tokens"
METRIC_BUSY_SECONDS = "tokenmill_worker_busy_seconds"
METRIC_WORKER_REQUESTS = "tokenmill_worker_requests"
METRIC_WORKER_MAX_REQUESTS = "tokenmill_worker_max_requests"
METRIC_PENDING_PREFILL = "tokenmill_worker_pending_prefill_tokens"
METRIC_KV_BLOCKS = "tokenmill_worker_kv_blocks"
METRIC_KV_BLOCK_TOKENS = "tokenmill_worker_kv_block_tokens"
METRIC_PREEMPTIONS = "tokenmill_worker_preemptions"
METRIC_PROMPT_TOKENS = "tokenmill_worker_prompt_tokens"
METRIC_CACHE_LOAD_SECONDS = "tokenmill_worker_cache_load_seconds"
METRIC_CACHE_SAVED_SECONDS = "tokenmill_worker_cache_saved_seconds"
METRIC_OFFERS_DROPPED = "tokenmill_worker_cache_offers_dropped_blocks"
METRIC_GPU_UTILISATION = "tokenmill_worker_gpu_utilisation_ratio"
METRIC_GPU_MEMORY_USED = "tokenmill_worker_gpu_memory_used_bytes"
METRIC_GPU_MEMORY_TOTAL = "tokenmill_worker_gpu_memory_total_bytes"
METRIC_CACHE_HITS = "tokenmill_cache_hits"
METRIC_CACHE_HIT_BYTES = "tokenmill_cache_hit_bytes"
METRIC_CACHE_TENANT_SIZE = "tokenmill_cache_tenant_bytes"
METRIC_CACHE_MISSES = "tokenmill_cache_misses"
METRIC_CACHE_PUTS = "tokenmill_cache_puts"
METRIC_CACHE_REJECTED = "tokenmill_cache_rejected"
METRIC_CACHE_EVICTIONS = "tokenmill_cache_evictions"
METRIC_CACHE_BLOCKS = "tokenmill_cache_blocks"
METRIC_CACHE_SIZE = "tokenmill_cache_size_bytes"
METRIC_CACHE_CAPACITY = "tokenmill_cache_capacity_bytes"
METRIC_CACHE_DISK_DROPPED = "tokenmill_cache_disk_dropped"
METRIC_CACHE_DISK_TORN = "tokenmill_cache_disk_torn"
METRIC_CACHE_DISK_LOAD = "tokenmill_cache_disk_load_seconds"

# The names that dashboards for vLLM ask for, with its labels.
VLLM_LABELS = ("model_name", "engine")
VLLM_E2E_LATENCY = "vllm:e2e_request_latency_seconds"
VLLM_TTFT = "vllm:time_to_first_token_seconds"
VLLM_ITL = "vllm:inter_token_latency_seconds"
VLLM_TPOT = "vllm:request_time_per_output_token_seconds"
VLLM_PROMPT_TOKENS = "vllm:prompt_tokens"
VLLM_GENERATION_TOKENS = "vllm:generation_tokens"
VLLM_REQUEST_PROMPT_TOKENS = "vllm:request_prompt_tokens"
VLLM_REQUEST_GENERATION_TOKENS = "vllm:request_generation_tokens"
VLLM_REQUEST_SUCCESS = "vllm:request_success"
VLLM_PARAMS_N = "vllm:request_params_n"
VLLM_PARAMS_MAX_TOKENS = "vllm:request_params_max_tokens"
VLLM_RUNNING = "vllm:num_requests_running"
VLLM_WAITING = "vllm:num_requests_waiting"
VLLM_KV_USAGE = "vllm:kv_cache_usage_perc"
VLLM_PREFIX_QUERIES = "vllm:prefix_cache_queries"
VLLM_PREFIX_HITS = "vllm:prefix_cache_hits"
VLLM_PROMPT_TOKENS_BY_SOURCE = "vllm:prompt_tokens_by_source"
VLLM_PREEMPTIONS = "vllm:num_preemptions"
VLLM_ITERATION_TOKENS = "vllm:iteration_tokens_total"
VLLM_CACHE_CONFIG = "vllm:cache_config_info"
VLLM_QUEUE_TIME = "vllm:request_queue_time_seconds"
VLLM_PREFILL_TIME = "vllm:request_prefill_time_seconds"
VLLM_DECODE_TIME = "vllm:request_decode_time_seconds"
VLLM_INFERENCE_TIME = "vllm:request_inference_time_seconds"

PLACE_BUCKETS = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05,
)  # fmt: skip
STEP_BUCKETS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5,
)  # fmt: skip
SHARE_BUCKETS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
COUNT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKEN_BUCKETS = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000,
)  # fmt: skip
RPC_DURATION_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
)  # fmt: skip
REQUEST_DURATION_BUCKETS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
TIME_TO_FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
)  # fmt: skip
TIME_PER_OUTPUT_TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5,
)  # fmt: skip
