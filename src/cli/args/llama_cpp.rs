//! llama.cpp's flags that bise does not define: what becomes of each, so that no flag of a command line made for llama.cpp
//! is silently dropped. A flag that only says where or how fast to compute is accepted with a warning; one that would change
//! what is computed, or that asks for something bise does not do, is refused.

/// What becomes of a flag.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Accepted without a word: bise always does that.
    AlwaysSo,
    /// Accepted with a warning that gives this reason.
    NoEffect(&'static str),
    /// Accepted without a word for the first values, with a warning for the second ones, and refused for others.
    Values { so: &'static [&'static str], not_so: &'static [&'static str], why: &'static str },
    /// Refused with this reason.
    Refused(&'static str),
}

/// A flag of llama.cpp.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    spellings: &'static str,
    /// The environment variable that stands for it, or nothing.
    pub env: &'static str,
    pub fate: Fate,
}

impl Flag {
    /// Every way to write it, with its dashes.
    pub fn spellings(&self) -> impl Iterator<Item = &'static str> {
        self.spellings.split(' ').filter(|word| word.starts_with('-'))
    }

    /// Whether a value follows. (Those of refused flags are never looked at.)
    pub fn takes_value(&self) -> bool {
        self.spellings.ends_with(" N")
    }
}

/// The flag that is spelled like this on the command line of `command`, a name of ours.
pub fn find(spelling: &str, command: &str) -> Option<Flag> {
    own(command).chain(flags(ALL)).find(|flag| flag.spellings().any(|s| s == spelling))
}

/// The flag that an environment variable stands for where `command` runs.
pub fn find_variable(name: &str, command: &str) -> Option<Flag> {
    own(command).chain(all()).find(|flag| flag.env == name)
}

/// Flags that mean something else to `command` than to others.
fn own(command: &str) -> impl Iterator<Item = Flag> {
    flags(match command {
        "bench" => BENCH,
        "serve" => SERVE,
        _ => &[],
    })
}

/// Every flag of the table, but for those that `llama-bench` alone has.
pub fn all() -> impl Iterator<Item = Flag> {
    flags(ALL)
}

type Group = (Fate, &'static [(&'static str, &'static str)]);

fn flags(groups: &'static [Group]) -> impl Iterator<Item = Flag> {
    groups
        .iter()
        .flat_map(|&(fate, flags)| flags.iter().map(move |&(spellings, env)| Flag { spellings, env, fate }))
}

use Fate::{AlwaysSo, NoEffect, Refused, Values};

const DEVICE: Fate = NoEffect("bise computes on the CPU alone");
const LAYOUT: Fate = NoEffect("weights are used as they lie in the file");
const OWN: Fate = NoEffect("bise decides that itself");
const SAME_THREADS: Fate = NoEffect("the threads of --cpu-mask and --cpu-range read the prompt as well");
const DRAFT_MODEL: Fate =
    NoEffect("there is no draft model (`bise -p` drafts from the text with --spec-type ngram)");
const NO_DRAFTS: Fate = NoEffect("the server drafts no tokens: requests share its passes instead");
const NO_CHECKPOINTS: Fate = NoEffect("bise holds one conversation at a time and keeps no checkpoints of it");
const SERVER: Fate = Refused("it belongs to `bise serve`");
const IMAGES: Fate = Refused("images, sound and video are not supported");
const ADAPTER: Fate = Refused("adapters (--lora, --lora-scaled) act as soon as they are loaded");
#[cfg(not(feature = "hub"))]
const NO_DOWNLOADS: Fate = Refused("this program was built without downloads; it runs a file (-m FILE.gguf)");
const CONTROL_VECTOR: Fate = Refused("control vectors are not supported");
const EMBEDDING: Fate = Refused("it belongs to `bise embedding`");
const RERANKING: Fate = Refused("rerankers are not supported");
#[cfg(feature = "eval")]
const TASK: Fate = PERPLEXITY;
#[cfg(not(feature = "eval"))]
const TASK: Fate = Refused("this program was built without the feature \"eval\"");
const PERPLEXITY: Fate = Refused("it belongs to `bise perplexity`");
#[cfg(feature = "compare")]
const DIVERGENCE: Fate = PERPLEXITY;
#[cfg(not(feature = "compare"))]
const DIVERGENCE: Fate = Refused("this program was built without the feature \"compare\"");
#[cfg(feature = "quantize")]
const IMATRIX: Fate = Refused("it belongs to `bise imatrix`");
#[cfg(not(feature = "quantize"))]
const IMATRIX: Fate = Refused("this program was built without the feature \"quantize\"");
#[cfg(feature = "train")]
const TRAINING: Fate =
    Refused("it belongs to llama-finetune (`bise train --help` lists the flags of training here)");
#[cfg(not(feature = "train"))]
const TRAINING: Fate = Refused("this program was built without the feature \"train\"");
const OTHER_PROGRAM: Fate = Refused("it belongs to another program of llama.cpp");
const BATCHED_BENCH: Fate = Refused("bise bench has -p, -n and --parallel instead");
#[rustfmt::skip]
const DRAFTERS: &[&str] = &[
    "ngram", "ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache",
    "draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "draft-dspark",
];
const ON: &[&str] = &["on", "auto", "enabled", "true", "1", "-1"];
const OFF: &[&str] = &["off", "disabled", "false", "0"];

#[rustfmt::skip]
const ALL: &[Group] = &[
    (DEVICE, &[
        ("-ngl --gpu-layers --n-gpu-layers N", "LLAMA_ARG_N_GPU_LAYERS"),
        ("-sm --split-mode N", "LLAMA_ARG_SPLIT_MODE"),
        ("-ts --tensor-split N", "LLAMA_ARG_TENSOR_SPLIT"),
        ("-mg --main-gpu N", "LLAMA_ARG_MAIN_GPU"),
        ("-dev --device N", "LLAMA_ARG_DEVICE"),
        ("-kvo --kv-offload", "LLAMA_ARG_KV_OFFLOAD"),
        ("-nkvo --no-kv-offload", "LLAMA_ARG_NO_KV_OFFLOAD"),
        ("--op-offload", ""),
        ("-nopo --no-op-offload", ""),
        ("--no-host", "LLAMA_ARG_NO_HOST"),
        ("-ot --override-tensor N", "LLAMA_ARG_OVERRIDE_TENSOR"),
        ("-cmoe --cpu-moe", "LLAMA_ARG_CPU_MOE"),
        ("-ncmoe --n-cpu-moe N", "LLAMA_ARG_N_CPU_MOE"),
        ("-ncffn --n-cpu-ffn N", "LLAMA_ARG_N_CPU_FFN"),
        ("-fit --fit N", "LLAMA_ARG_FIT"),
        ("-fitt --fit-target N", "LLAMA_ARG_FIT_TARGET"),
        ("-fitc --fit-ctx N", "LLAMA_ARG_FIT_CTX"),
        ("-fitp --fit-print N", "LLAMA_ARG_FIT_ESTIMATE"),
        ("-bs --backend-sampling", "LLAMA_ARG_BACKEND_SAMPLING"),
        ("--mmproj-offload", "LLAMA_ARG_MMPROJ_OFFLOAD"),
        ("--no-mmproj-offload", "LLAMA_ARG_NO_MMPROJ_OFFLOAD"),
        ("-mmdev --mmproj-device N", ""),
        ("--spec-draft-ngl -ngld --gpu-layers-draft --n-gpu-layers-draft N", "LLAMA_ARG_N_GPU_LAYERS_DRAFT"),
        ("--spec-draft-device -devd --device-draft N", ""),
        ("--spec-draft-override-tensor -otd --override-tensor-draft N", ""),
        ("--spec-draft-cpu-moe -cmoed --cpu-moe-draft", "LLAMA_ARG_SPEC_DRAFT_CPU_MOE"),
        ("--spec-draft-n-cpu-moe --spec-draft-ncmoe -ncmoed --n-cpu-moe-draft N", "LLAMA_ARG_SPEC_DRAFT_N_CPU_MOE"),
    ]),
    (Refused("bise computes on the CPU alone: there is nothing to list"), &[("--list-devices", "")]),
    (Refused("bise computes on this machine alone"), &[("-rpc --rpc N", "LLAMA_ARG_RPC")]),
    (LAYOUT, &[
        ("--repack", "LLAMA_ARG_REPACK"),
        ("-nr --no-repack", "LLAMA_ARG_NO_REPACK"),
        ("-lzm --lazy-mode N", "LLAMA_ARG_LAZY_MODE"),
    ]),
    (OWN, &[
        ("--numa N", "LLAMA_ARG_NUMA"),
        ("--swa-full", "LLAMA_ARG_SWA_FULL"),
        ("-np --parallel N", "LLAMA_ARG_N_PARALLEL"),
        ("-kvu --kv-unified", "LLAMA_ARG_KV_UNIFIED"),
        ("-no-kvu --no-kv-unified", "LLAMA_ARG_NO_KV_UNIFIED"),
        ("-dt --defrag-thold N", "LLAMA_ARG_DEFRAG_THOLD"),
        ("-ptc --print-token-count N", ""),
        ("--spm-infill", ""),
        ("--draft-min --draft-n-min N", "LLAMA_ARG_DRAFT_MIN"),
        ("--spec-draft-n-min N", "LLAMA_ARG_SPEC_DRAFT_N_MIN"),
        ("--spec-ngram-mod-n-min N", ""),
        ("--spec-ngram-mod-n-match N", ""),
        ("--spec-ngram-simple-size-n N", ""),
        ("--spec-ngram-simple-min-hits N", ""),
        ("--spec-ngram-map-k-size-n N", ""),
        ("--spec-ngram-map-k-size-m N", ""),
        ("--spec-ngram-map-k-min-hits N", ""),
        ("--spec-ngram-map-k4v-size-n N", ""),
        ("--spec-ngram-map-k4v-size-m N", ""),
        ("--spec-ngram-map-k4v-min-hits N", ""),
        ("--spec-ngram-size-n N", ""),
        ("--spec-ngram-size-m N", ""),
        ("--spec-ngram-min-hits N", ""),
    ]),
    (SAME_THREADS, &[
        ("-Cb --cpu-mask-batch N", ""),
        ("-Crb --cpu-range-batch N", ""),
        ("--cpu-strict-batch N", ""),
    ]),
    (DRAFT_MODEL, &[
        ("--spec-draft-threads -td --threads-draft N", ""),
        ("--spec-draft-threads-batch -tbd --threads-batch-draft N", ""),
        ("--spec-draft-cpu-mask -Cd --cpu-mask-draft N", ""),
        ("--spec-draft-cpu-range -Crd --cpu-range-draft N", ""),
        ("--spec-draft-cpu-strict --cpu-strict-draft N", ""),
        ("--spec-draft-prio --prio-draft N", ""),
        ("--spec-draft-poll --poll-draft N", ""),
        ("--spec-draft-cpu-mask-batch -Cbd --cpu-mask-batch-draft N", ""),
        ("--spec-draft-cpu-range-batch -Crbd --cpu-range-batch-draft N", ""),
        ("--spec-draft-cpu-strict-batch --cpu-strict-batch-draft N", ""),
        ("--spec-draft-prio-batch --prio-batch-draft N", ""),
        ("--spec-draft-poll-batch --poll-batch-draft N", ""),
        ("--spec-draft-type-k -ctkd --cache-type-k-draft N", "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K"),
        ("--spec-draft-type-v -ctvd --cache-type-v-draft N", "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V"),
        ("--spec-draft-p-split --draft-p-split N", "LLAMA_ARG_SPEC_DRAFT_P_SPLIT"),
        ("--spec-draft-p-min --draft-p-min N", "LLAMA_ARG_SPEC_DRAFT_P_MIN"),
        ("--spec-draft-backend-sampling", "LLAMA_ARG_SPEC_DRAFT_BACKEND_SAMPLING"),
        ("--no-spec-draft-backend-sampling", "LLAMA_ARG_NO_SPEC_DRAFT_BACKEND_SAMPLING"),
        ("--spec-draft-sampling N", "LLAMA_ARG_SPEC_DRAFT_SAMPLING"),
    ]),
    (Refused("draft models are not supported; `bise -p` drafts from the text itself with --spec-type ngram"), &[
        ("--spec-draft-model -md --model-draft N", "LLAMA_ARG_SPEC_DRAFT_MODEL"),
        ("--spec-draft-hf -hfd -hfrd --hf-repo-draft N", "LLAMA_ARG_SPEC_DRAFT_HF_REPO"),
        ("-lcs --lookup-cache-static N", ""),
        ("-lcd --lookup-cache-dynamic N", ""),
        ("--spec-synth-len N", "LLAMA_ARG_SPEC_SYNTH_LEN"),
        ("--spec-synth-rates N", "LLAMA_ARG_SPEC_SYNTH_RATES"),
    ]),
    (NO_CHECKPOINTS, &[
        ("-ctxcp --ctx-checkpoints --swa-checkpoints N", "LLAMA_ARG_CTX_CHECKPOINTS"),
        ("-cms --checkpoint-min-step N", "LLAMA_ARG_CHECKPOINT_MIN_SPACING_NT"),
        ("-cram --cache-ram N", "LLAMA_ARG_CACHE_RAM"),
    ]),
    (AlwaysSo, &[
        ("--no-warmup", "LLAMA_ARG_NO_WARMUP"),
        ("--jinja", "LLAMA_ARG_JINJA"),
        ("--skip-chat-parsing", "LLAMA_ARG_SKIP_CHAT_PARSING"),
        ("--no-mmproj --no-mmproj-auto", "LLAMA_ARG_NO_MMPROJ_AUTO"),
        ("--no-log-prefix", "LLAMA_ARG_NO_LOG_PREFIX"),
        ("--no-log-timestamps", "LLAMA_ARG_NO_LOG_TIMESTAMPS"),
        ("--no-log-jsonl", "LLAMA_ARG_NO_LOG_JSONL"),
        ("--spec-default", ""),
    ]),
    (NoEffect("there is nothing to warm up"), &[("--warmup", "LLAMA_ARG_WARMUP")]),
    (NoEffect("templates are always rendered as Jinja"), &[("--no-jinja", "LLAMA_ARG_NO_JINJA")]),
    (NoEffect("the answer is printed as it is"), &[("--no-skip-chat-parsing", "LLAMA_ARG_NO_SKIP_CHAT_PARSING")]),
    (NoEffect("images are not supported"), &[("--mmproj-auto", "LLAMA_ARG_MMPROJ_AUTO")]),
    (Values { so: ON, not_so: OFF, why: "attention never holds all scores at once" }, &[
        ("-fa --flash-attn N", "LLAMA_ARG_FLASH_ATTN"),
    ]),
    (Values { so: &["off", "auto", "disabled", "false", "0", "-1"], not_so: &["on", "enabled", "true", "1"], why: "notes have no colours" }, &[
        ("--log-colors N", "LLAMA_ARG_LOG_COLORS"),
    ]),
    (NoEffect("there is nothing more to say"), &[("-v --verbose --log-verbose", "")]),
    (NoEffect("notes are written as they are (log them with 2>FILE)"), &[
        ("--log-prefix", "LLAMA_ARG_LOG_PREFIX"),
        ("--log-timestamps", "LLAMA_ARG_LOG_TIMESTAMPS"),
        ("--log-jsonl", "LLAMA_ARG_LOG_JSONL"),
        ("--log-file N", "LLAMA_ARG_LOG_FILE"),
        ("--log-prompts-dir N", ""),
    ]),
    #[cfg(not(feature = "hub"))]
    (NO_DOWNLOADS, &[
        ("-mu --model-url N", "LLAMA_ARG_MODEL_URL"),
        ("-hf -hfr --hf-repo N", "LLAMA_ARG_HF_REPO"),
        ("-hff --hf-file N", "LLAMA_ARG_HF_FILE"),
        ("-hft --hf-token N", ""),
    ]),
    #[cfg(not(feature = "hub"))]
    (AlwaysSo, &[("--offline", "LLAMA_ARG_OFFLINE")]),
    (Refused("Docker's registry is not asked; models come from Hugging Face (-hf), from Ollama's registry (bise pull) or a URL (-mu)"), &[
        ("-dr --docker-repo N", "LLAMA_ARG_DOCKER_REPO"),
    ]),
    (Refused("type `bise list`"), &[("-cl --cache-list", "")]),
    (Refused("name the model: -hf USER/REPOSITORY"), &[
        ("--mtp", ""), ("--dflash", ""), ("--eagle3", ""),
        ("--embd-gemma-default", ""),
        ("--fim-qwen-1.5b-default", ""), ("--fim-qwen-3b-default", ""), ("--fim-qwen-7b-default", ""),
        ("--fim-qwen-7b-spec", ""), ("--fim-qwen-14b-spec", ""), ("--fim-qwen-30b-default", ""),
        ("--gpt-oss-20b-default", ""), ("--gpt-oss-120b-default", ""),
        ("--vision-gemma-4b-default", ""), ("--vision-gemma-12b-default", ""),
    ]),
    (Refused("type `bise completions bash`"), &[("--completion-bash", "")]),
    (Refused("type `bise inspect --check-tensors FILE`"), &[("--check-tensors", "")]),
    (Refused("the text goes to standard output (bise … >FILE)"), &[("-o --output --output-file N", "")]),
    #[cfg(not(feature = "grammar"))]
    (Refused("this program was built without the feature \"grammar\""), &[
        ("--grammar N", ""), ("--grammar-file N", ""),
        ("-j --json-schema N", ""), ("-jf --json-schema-file N", ""),
    ]),
    (Refused("this sampler is not supported"), &[("--adaptive-target N", ""), ("--adaptive-decay N", "")]),
    (ADAPTER, &[("--lora-init-without-apply", "")]),
    (CONTROL_VECTOR, &[
        ("--control-vector N", ""), ("--control-vector-scaled N", ""), ("--control-vector-layer-range N", ""),
    ]),
    (Refused("only --yarn-orig-ctx, --yarn-beta-fast and --yarn-beta-slow are supported"), &[
        ("--yarn-ext-factor N", "LLAMA_ARG_YARN_EXT_FACTOR"),
        ("--yarn-attn-factor N", "LLAMA_ARG_YARN_ATTN_FACTOR"),
    ]),
    (Refused("self-extend is not supported; --rope-scaling yarn lengthens a context"), &[
        ("-gan --grp-attn-n N", "LLAMA_ARG_GRP_ATTN_N"),
        ("-gaw --grp-attn-w N", "LLAMA_ARG_GRP_ATTN_W"),
    ]),
    (Values { so: &["none"], not_so: &["auto", "deepseek", "deepseek-legacy"], why: "thoughts are printed as a part of the answer" }, &[
        ("--reasoning-format N", "LLAMA_ARG_THINK"),
    ]),
    (Values { so: &["-1"], not_so: &[], why: "thoughts are not limited" }, &[
        ("--reasoning-budget N", "LLAMA_ARG_THINK_BUDGET"),
    ]),
    (Refused("thoughts are not limited (--reasoning off)"), &[
        ("--reasoning-budget-message N", "LLAMA_ARG_THINK_BUDGET_MESSAGE"),
    ]),
    (Refused("give it to the template: --chat-template-kwargs '{\"reasoning_effort\": \"high\"}'"), &[
        ("--reasoning-effort N", "LLAMA_ARG_REASONING_EFFORT"),
    ]),
    (NoEffect("thoughts stay in the conversation as a part of the answer; the chat template decides what is shown to the model"), &[
        ("--reasoning-preserve", "LLAMA_ARG_REASONING_PRESERVE"),
        ("--no-reasoning-preserve", "LLAMA_ARG_NO_REASONING_PRESERVE"),
    ]),
    (IMAGES, &[
        ("-mm --mmproj N", "LLAMA_ARG_MMPROJ"),
        ("-mmu --mmproj-url N", "LLAMA_ARG_MMPROJ_URL"),
        ("--image --audio --video N", ""),
        ("--image-min-tokens N", "LLAMA_ARG_IMAGE_MIN_TOKENS"),
        ("--image-max-tokens N", "LLAMA_ARG_IMAGE_MAX_TOKENS"),
        ("--mtmd-batch-max-tokens N", "LLAMA_ARG_MTMD_BATCH_MAX_TOKENS"),
        ("--video-fps N", "LLAMA_ARG_VIDEO_FPS"),
        ("--video-timestamp-interval N", "LLAMA_ARG_VIDEO_TIMESTAMP_INTERVAL"),
        ("--video-ffmpeg-dir N", "LLAMA_ARG_VIDEO_FFMPEG_DIR"),
    ]),
    (EMBEDDING, &[
        ("--pooling N", "LLAMA_ARG_POOLING"),
        ("-embd --embedding --embeddings", "LLAMA_ARG_EMBEDDINGS"),
        ("--embd-normalize N", ""), ("--embd-output-format N", ""), ("--embd-separator N", ""),
    ]),
    (RERANKING, &[("--rerank --reranking", "LLAMA_ARG_RERANKING"), ("--cls-separator N", "")]),
    (Values { so: &["causal"], not_so: &[], why: "attention is causal" }, &[("--attention N", "")]),
    (SERVER, &[
        ("--server-base N", ""),
        ("--kv-unified-per-slot N", "LLAMA_ARG_KV_UNIFIED_PER_SLOT"),
        ("--cache-idle-slots", "LLAMA_ARG_CACHE_IDLE_SLOTS"),
        ("--no-cache-idle-slots", "LLAMA_ARG_NO_CACHE_IDLE_SLOTS"),
        ("-cb --cont-batching", "LLAMA_ARG_CONT_BATCHING"),
        ("-nocb --no-cont-batching", "LLAMA_ARG_NO_CONT_BATCHING"),
        ("-a --alias N", "LLAMA_ARG_ALIAS"),
        ("--tags N", "LLAMA_ARG_TAGS"),
        ("--host N", "LLAMA_ARG_HOST"),
        ("--port N", "LLAMA_ARG_PORT"),
        ("--reuse-port", "LLAMA_ARG_REUSE_PORT"),
        ("--path N", "LLAMA_ARG_STATIC_PATH"),
        ("--cors-origins N", "LLAMA_ARG_CORS_ORIGINS"),
        ("--cors-methods N", "LLAMA_ARG_CORS_METHODS"),
        ("--cors-headers N", "LLAMA_ARG_CORS_HEADERS"),
        ("--cors-credentials", "LLAMA_ARG_CORS_CREDENTIALS"),
        ("--no-cors-credentials", "LLAMA_ARG_NO_CORS_CREDENTIALS"),
        ("--api-prefix N", "LLAMA_ARG_API_PREFIX"),
        ("--ui-config --webui-config N", "LLAMA_ARG_UI_CONFIG"),
        ("--ui-config-file --webui-config-file N", "LLAMA_ARG_UI_CONFIG_FILE"),
        ("--ui-mcp-proxy --webui-mcp-proxy", "LLAMA_ARG_UI_MCP_PROXY"),
        ("--no-ui-mcp-proxy --no-webui-mcp-proxy", "LLAMA_ARG_NO_UI_MCP_PROXY"),
        ("--tools N", "LLAMA_ARG_TOOLS"),
        ("--tools-runtime N", "LLAMA_ARG_TOOLS_RUNTIME"),
        ("--mcp-servers-config N", "LLAMA_ARG_MCP_SERVERS_CONFIG"),
        ("--mcp-servers-json N", "LLAMA_ARG_MCP_SERVERS_JSON"),
        ("-ag --agent", "LLAMA_ARG_AGENT"),
        ("-no-ag --no-agent", "LLAMA_ARG_NO_AGENT"),
        ("--ui --webui", "LLAMA_ARG_UI"),
        ("--no-ui --no-webui", "LLAMA_ARG_NO_UI"),
        ("--api-key N", ""),
        ("--api-key-file N", "LLAMA_ARG_API_KEY_FILE"),
        ("--ssl-key-file N", "LLAMA_ARG_SSL_KEY_FILE"),
        ("--ssl-cert-file N", "LLAMA_ARG_SSL_CERT_FILE"),
        ("-to --timeout N", "LLAMA_ARG_TIMEOUT"),
        ("--sse-ping-interval N", "LLAMA_ARG_SSE_PING_INTERVAL"),
        ("--threads-http N", "LLAMA_ARG_THREADS_HTTP"),
        ("--cache-prompt", "LLAMA_ARG_CACHE_PROMPT"),
        ("--no-cache-prompt", "LLAMA_ARG_NO_CACHE_PROMPT"),
        ("--cache-reuse N", "LLAMA_ARG_CACHE_REUSE"),
        ("--metrics", "LLAMA_ARG_ENDPOINT_METRICS"),
        ("--props", "LLAMA_ARG_ENDPOINT_PROPS"),
        ("--slots", "LLAMA_ARG_ENDPOINT_SLOTS"),
        ("--no-slots", "LLAMA_ARG_NO_ENDPOINT_SLOTS"),
        ("--slot-save-path N", ""), ("--media-path N", ""),
        ("--models-dir N", "LLAMA_ARG_MODELS_DIR"),
        ("--models-preset N", "LLAMA_ARG_MODELS_PRESET"),
        ("--models-max N", "LLAMA_ARG_MODELS_MAX"),
        ("--models-autoload", "LLAMA_ARG_MODELS_AUTOLOAD"),
        ("--no-models-autoload", "LLAMA_ARG_NO_MODELS_AUTOLOAD"),
        ("--prefill-assistant", "LLAMA_ARG_PREFILL_ASSISTANT"),
        ("--no-prefill-assistant", "LLAMA_ARG_NO_PREFILL_ASSISTANT"),
        ("-sps --slot-prompt-similarity N", ""), ("--sleep-idle-seconds N", ""),
    ]),
    (TASK, &[
        ("--hellaswag", ""), ("--hellaswag-tasks N", ""), ("--winogrande", ""), ("--winogrande-tasks N", ""),
        ("--multiple-choice", ""), ("--multiple-choice-tasks N", ""),
    ]),
    (PERPLEXITY, &[("--ppl-stride N", ""), ("--ppl-output-type N", "")]),
    (DIVERGENCE, &[("--kl-divergence", ""), ("--save-all-logits --kl-divergence-base N", "")]),
    (BATCHED_BENCH, &[("-pps", ""), ("-tgs", ""), ("-npp N", ""), ("-ntg N", ""), ("-npl N", "")]),
    (IMATRIX, &[
        ("--in-file N", ""), ("-ofreq --output-frequency N", ""), ("--output-format N", ""),
        ("--save-frequency N", ""), ("--process-output", ""), ("--ppl", ""), ("--no-ppl", ""),
        ("--from-chunk N", ""),
    ]),
    (Refused("importance matrices are written without statistics of their sums"), &[("--show-statistics", "")]),
    (Refused("there are no layers that foretell several tokens"), &[("--nextn", "")]),
    (TRAINING, &[
        ("-lr --learning-rate N", ""), ("-lr-min --learning-rate-min N", ""),
        ("-decay-epochs --learning-rate-decay-epochs N", ""), ("-wd --weight-decay N", ""),
        ("-val-split --val-split N", ""), ("-epochs --epochs N", ""), ("-opt --optimizer N", ""),
    ]),
    (OTHER_PROGRAM, &[
        ("-ns --sequences N", ""),
        ("--context-file N", ""), ("--chunk-size N", ""), ("--chunk-separator N", ""),
        ("--junk N", ""), ("--pos N", ""),
        ("--positive-file N", ""), ("--negative-file N", ""), ("--pca-batch N", ""), ("--pca-iter N", ""), ("--method N", ""),
        ("--tts-lang N", ""), ("--tts-speaker-file N", ""),
        ("--diffusion-steps N", ""), ("--diffusion-visual", ""), ("--diffusion-eps N", ""), ("--diffusion-algorithm N", ""),
        ("--diffusion-alg-temp N", ""), ("--diffusion-block-length N", ""), ("--diffusion-cfg-scale N", ""),
        ("--diffusion-add-gumbel-noise N", ""),
        ("--check", ""), ("--save-logits", ""), ("--logits-output-dir N", ""), ("--tensor-filter N", ""),
    ]),
];

/// Flags that are switches elsewhere and take values in llama-bench, and those it has alone.
#[rustfmt::skip]
const BENCH: &[Group] = &[
    (Values { so: &["0"], not_so: &["1", "0,1", "1,0"], why: "bise computes on the CPU alone" }, &[
        ("-nkvo --no-kv-offload N", ""), ("-nopo --no-op-offload N", ""), ("--no-host N", ""),
    ]),
    (Values { so: &["0"], not_so: &["1", "0,1", "1,0"], why: "weights are used as they lie in the file" }, &[("--repack N", "")]),
    (Values { so: &["0"], not_so: &["1", "0,1", "1,0"], why: "the speed is that of logits" }, &[("-embd --embeddings N", "")]),
    (Values { so: ON, not_so: &["off", "0", "disabled", "false", "0,1", "1,0", "on,off", "off,on"], why: "attention never holds all scores at once" }, &[
        ("-fa --flash-attn N", ""),
    ]),
    (NoEffect("tests follow each other at once"), &[("--delay N", "")]),
];

/// Flags of llama-server that `bise serve` does not define.
#[rustfmt::skip]
const SERVE: &[Group] = &[
    (AlwaysSo, &[
        ("-cb --cont-batching", "LLAMA_ARG_CONT_BATCHING"),
        ("-embd --embedding --embeddings", "LLAMA_ARG_EMBEDDINGS"),
        ("-no-ag --no-agent", "LLAMA_ARG_NO_AGENT"),
        ("--no-context-shift", ""),
        ("--perf", "LLAMA_ARG_PERF"),
        ("--no-ui-mcp-proxy --no-webui-mcp-proxy", "LLAMA_ARG_NO_UI_MCP_PROXY"),
    ]),
    (NoEffect("answers come with their timings"), &[("--no-perf", "LLAMA_ARG_NO_PERF")]),
    (NoEffect("a context that is full ends the answer"), &[("--keep N", "")]),
    (NO_DRAFTS, &[
        ("--spec-default", ""),
        ("--spec-draft-n-max N", "LLAMA_ARG_SPEC_DRAFT_N_MAX"),
        ("--draft --draft-n --draft-max N", "LLAMA_ARG_DRAFT_MAX"),
        ("--spec-ngram-mod-n-max N", ""),
        ("--spec-ngram-simple-size-m N", ""),
    ]),
    (Values { so: &["none"], not_so: DRAFTERS, why: "the server drafts no tokens: requests share its passes instead" }, &[
        ("--spec-type N", "LLAMA_ARG_SPEC_TYPE"),
    ]),
    (Refused("a request brings its own: \"grammar\", \"json_schema\" or \"response_format\""), &[
        ("--grammar N", ""), ("--grammar-file N", ""),
        ("-j --json-schema N", ""), ("-jf --json-schema-file N", ""),
    ]),
    (Refused("control tokens are no part of an answer"), &[("-sp --special", "")]),
    (Values { so: &["2"], not_so: &[], why: "vectors of texts have the length 1" }, &[("--embd-normalize N", "")]),
    (Refused("type `bise --version`"), &[("--version", "")]),
    (NoEffect("requests always share passes"), &[("-nocb --no-cont-batching", "LLAMA_ARG_NO_CONT_BATCHING")]),
    (NoEffect("keys and values of prompts are kept in pages that all slots share, as long as there is room"), &[
        ("--cache-idle-slots", "LLAMA_ARG_CACHE_IDLE_SLOTS"),
        ("--no-cache-idle-slots", "LLAMA_ARG_NO_CACHE_IDLE_SLOTS"),
        ("--cache-reuse N", "LLAMA_ARG_CACHE_REUSE"),
        ("-cram --cache-ram N", "LLAMA_ARG_CACHE_RAM"),
        ("-ctxcp --ctx-checkpoints --swa-checkpoints N", "LLAMA_ARG_CTX_CHECKPOINTS"),
        ("-cms --checkpoint-min-step N", "LLAMA_ARG_CHECKPOINT_MIN_SPACING_NT"),
        ("--kv-unified-per-slot N", "LLAMA_ARG_KV_UNIFIED_PER_SLOT"),
        ("-sps --slot-prompt-similarity N", ""),
    ]),
    (Refused("encryption is for a proxy in front of the server"), &[
        ("--ssl-key-file N", "LLAMA_ARG_SSL_KEY_FILE"),
        ("--ssl-cert-file N", "LLAMA_ARG_SSL_CERT_FILE"),
    ]),
    (Refused("a context that is full ends the answer"), &[("--context-shift", "LLAMA_ARG_CONTEXT_SHIFT")]),
    (Refused("the server runs no tools itself"), &[
        ("--tools N", "LLAMA_ARG_TOOLS"),
        ("--tools-runtime N", "LLAMA_ARG_TOOLS_RUNTIME"),
        ("--mcp-servers-config N", "LLAMA_ARG_MCP_SERVERS_CONFIG"),
        ("--mcp-servers-json N", "LLAMA_ARG_MCP_SERVERS_JSON"),
        ("--ui-mcp-proxy --webui-mcp-proxy", "LLAMA_ARG_UI_MCP_PROXY"),
        ("-ag --agent", "LLAMA_ARG_AGENT"),
    ]),
    (Refused("the page keeps its settings in the browser, and comes with the program"), &[
        ("--ui-config --webui-config N", "LLAMA_ARG_UI_CONFIG"),
        ("--ui-config-file --webui-config-file N", "LLAMA_ARG_UI_CONFIG_FILE"),
        ("--path N", "LLAMA_ARG_STATIC_PATH"),
    ]),
    (Refused("prompts are cached by themselves, and not in files of slots"), &[("--slot-save-path N", "")]),
    (IMAGES, &[("--media-path N", "")]),
    (Refused("a port is listened on by one server"), &[("--reuse-port", "LLAMA_ARG_REUSE_PORT")]),
    (Refused("there is no such preset"), &[("--server-base N", "")]),
];
