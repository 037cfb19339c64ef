//! What stands below the flags in `--help`: examples, and what else is worth knowing of a command.

pub const BISE: &str = "\
Examples:
  bise -p \"Once upon a time\" -n 64
      a story from the built-in model
  bise -m mistral.gguf -p \"The bise is\" -n 128
      continue a text
  bise -m mistral.gguf
      hold a conversation, if the model has a chat template
  bise -m mistral.gguf -sys \"Be brief.\" -p \"What is a fjord?\" -st
      one question, one answer
  bise -m mistral.gguf -f notes.txt --temp 0 -c 8192 -ctk q8_0 -ctv q8_0
      greedy decoding, with a cache of half the size
  bise -m mistral.gguf -f report.txt -n 200 --prompt-cache report.session
      a long prompt, which is read only the first time
  bise -m codestral.gguf --infill --in-prefix @head.rs --in-suffix @tail.rs
      fill in the middle

Flags are named as in llama.cpp and may be written as there (-ngl, -cnv, -ub, --top_k). Those that choose where or how fast \
to compute, such as -ngl, are accepted with a warning; those that bise does not support are refused. A flag with [env: NAME] \
can be set by that environment variable; what is typed wins.

Without a subcommand, bise continues the prompt as it stands. Without a prompt, it holds a conversation if the model has a \
chat template (-cnv and -no-cnv decide). Control tokens such as </s> in a prompt count as such, and a BOS token is added if \
the vocabulary asks for one.

Ctrl-C stops the text that is being generated, and a second one the program. Exit codes: 0 success, 1 error, 2 wrong usage, \
130 Ctrl-C.";

pub const CHAT: &str = "\
Examples:
  bise chat
      talk to the built-in model
  bise chat -m mistral.gguf -sys \"You are a pirate.\" --temp 0.7
      with a system prompt
  echo \"Name three winds.\" | bise chat -m mistral.gguf -st
      one question from a pipe

Type /help in a conversation for its commands.";

pub const INSPECT: &str = "\
Examples:
  bise inspect mistral.gguf
      shape, tensor types, memory for each context length, metadata
  bise inspect --check-tensors mistral.gguf
      also look for NaN and infinite weights
  bise inspect --verify mistral.gguf
      read every block and look for anything that is unsound; the exit code tells
  bise inspect --hash sha256 mistral.gguf >mistral.manifest
  bise inspect --check mistral.manifest mistral.gguf
      hashes of the tensors, as llama.cpp's gguf-hash makes them, and whether they still hold
  bise inspect mistral-f16.gguf --diff mistral-q4_k_m.gguf
      keys and tensors that differ, and by how much
  bise inspect --histogram tensor mistral.gguf
      how large the scales are
  bise inspect --json mistral.gguf
      for programs";

pub const TOKENIZE: &str = "\
Examples:
  bise tokenize -m mistral.gguf -p \"Once upon a time\"
      a line for each token
  bise tokenize -m mistral.gguf --stdin --ids <text.txt
      the ids alone";

pub const BENCH: &str = "\
Examples:
  bise bench -m mistral.gguf
      512 tokens of prefill, 128 of decode
  bise bench -m mistral.gguf -p 0 -n 64 -d 0,4096 -t 1,2
      decode at two depths, with one thread and with two
  bise bench -m mistral.gguf -p 0 -n 32 --parallel 8 -o json
      eight sequences together, as JSON";

pub const PERPLEXITY: &str = "\
Examples:
  bise perplexity -m mistral.gguf -f wiki.test.raw -c 512
      as llama-perplexity computes it
  bise perplexity -m mistral.gguf --hellaswag -f hellaswag_val_full.txt
      llama-perplexity's questions; also --winogrande and --multiple-choice
  bise perplexity -m mistral-f16.gguf -f wiki.test.raw --kl-divergence-base mistral.kld
  bise perplexity -m mistral-q4_k_m.gguf --kl-divergence --kl-divergence-base mistral.kld
      how far the predictions of the second model are from those of the first";

#[cfg(feature = "compare")]
pub const COMPARE: &str = "\
Examples:
  bise compare mistral-f16.gguf mistral-q8_0.gguf mistral-q4_k_m.gguf -f wiki.test.raw --chunks 40
      how much worse each of the others is than the first, how much smaller and how much faster
  bise compare mistral-q4_k_m.gguf mistral-q3_k_m.gguf --kl-divergence-base mistral.kld -r 0
      compared with what `bise perplexity --kl-divergence-base mistral.kld` wrote; speed is not measured
  bise compare f16.gguf q6_k.gguf q4_k_m.gguf -f text.txt --plot quality.svg --json >quality.json
      for a web page

One model at a time is in memory. The log-probabilities of the first lie in a file in TMPDIR for a while (2 bytes for each token of the \
vocabulary and position). Divergence is that of Kullback and Leibler, in nats; `same top` is how often the likeliest token is the same.";

#[cfg(feature = "eval")]
pub const EVAL: &str = "\
Examples:
  hf download Rowan/hellaswag --repo-type dataset --local-dir data/hellaswag
  bise eval -m mistral.gguf --tasks hellaswag --data data
      all 10042 questions; --limit 100 for the first hundred
  bise eval -m mistral.gguf --tasks mmlu,triviaqa --num-fewshot 5 --data data --json scores.json
      with five examples before each question
  bise eval -m mistral.gguf --suite mistral-7b --data data
      the tasks of Mistral 7B's announcement, and its figures
  bise eval -m mistral-instruct.gguf --tasks arc_challenge --data data --apply-chat-template
      asked in a conversation

Prompts, examples and metrics are those of lm-evaluation-harness 0.4.13. Where a dataset is missing, the message says how to download it.";

#[cfg(feature = "convert")]
pub const CONVERT: &str = "\
Examples:
  bise convert Mistral-7B-Instruct-v0.3 -o mistral-7b-{ftype}.gguf
      a file in the 16 bits that the weights have
  bise convert Mistral-7B-Instruct-v0.3 -o mistral-7b-q4_k_m.gguf --outtype q4_k_m
      straight to a model of 4.8 bits a weight
  bise convert --dry-run Ministral-3-8B-Instruct-2512
      what would become of each tensor
  bise convert --mistral-format Devstral-Small-2507 -o devstral.gguf --outtype bf16
      from params.json and consolidated.safetensors";

#[cfg(feature = "quantize")]
pub const QUANTIZE: &str = "\
Examples:
  bise quantize mistral-f16.gguf mistral-q4_k_m.gguf Q4_K_M
      a model of 4.8 bits a weight
  bise quantize --imatrix mistral.imatrix.gguf mistral-f16.gguf mistral-q3_k_m.gguf Q3_K_M
      with what a text says about which columns matter
  bise quantize --dry-run mistral-f16.gguf Q4_K_M
      what would become of each tensor
  bise quantize --tensor-type 'ffn_down=q6_k' --token-embedding-type q8_0 in.gguf out.gguf Q4_K_S
      with types of one's own

Types: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q2_K_S, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K, \
IQ4_NL, IQ4_XS and COPY, or their numbers as in llama-quantize; Q3_K, Q4_K and Q5_K are short for the _M ones.";

#[cfg(feature = "quantize")]
pub const IMATRIX: &str = "\
Examples:
  bise imatrix -m mistral-f16.gguf -f calibration.txt -o mistral.imatrix.gguf
      for bise quantize --imatrix, and for llama-quantize
  bise imatrix -m mistral-f16.gguf -f calibration.txt -o all.gguf --in-file part.gguf --from-chunk 40
      go on where part.gguf ended after 40 chunks
  bise imatrix --in-file one.gguf --in-file two.dat -o both.gguf
      add up two of them";

#[cfg(feature = "quantize")]
pub const SPLIT: &str = "\
Examples:
  bise split --split-max-size 4G mistral-f16.gguf mistral-f16
      mistral-f16-00001-of-00004.gguf and so on, each with 4 GB of weights at most
  bise split --dry-run --split-max-tensors 100 mistral.gguf mistral
      how many files there would be";

#[cfg(feature = "quantize")]
pub const MERGE: &str = "\
Examples:
  bise merge mistral-f16-00001-of-00004.gguf mistral-f16.gguf
      one file of all four";

#[cfg(feature = "convert")]
pub const LORA: &str = "\
Examples:
  bise lora convert my-adapter -m mistral-q4_k_m.gguf -o my-adapter.gguf
      a PEFT folder as a GGUF file
  bise lora merge -m mistral-f16.gguf --lora my-adapter -o merged-q4_k_m.gguf Q4_K_M
      a model with the adapter in its weights
  bise lora inspect my-adapter -m mistral-q4_k_m.gguf
      its rank, scale and modules, and whether it fits

`bise lora convert --help` and the like say more.";

#[cfg(feature = "convert")]
pub const LORA_CONVERT: &str = "\
Examples:
  bise lora convert my-adapter -m mistral-q4_k_m.gguf -o my-adapter-{ftype}.gguf --outtype f16
      a PEFT folder as a GGUF file, for --lora of bise and llama.cpp
  bise lora convert my-adapter --base Mistral-7B-Instruct-v0.3 -o my-adapter.gguf
      with the config.json of the base model
  bise lora convert my-adapter.gguf -m mistral-q4_k_m.gguf -o my-adapter
      back to a folder that PEFT loads

The base model's shapes are needed, since rows of queries and keys lie otherwise in GGUF files. Where adapter_config.json names a folder \
that is there, -m and --base may be left out.";

#[cfg(feature = "convert")]
pub const LORA_MERGE: &str = "\
Examples:
  bise lora merge -m mistral-f16.gguf --lora my-adapter -o merged-f16.gguf
      in the types of the base model
  bise lora merge -m mistral-f16.gguf --lora my-adapter -o merged-q4_k_m.gguf Q4_K_M
      quantized at once
  bise lora merge -m mistral-f16.gguf --lora-scaled facts.gguf:0.7,style.gguf:0.3 -o merged.gguf
      two adapters, each with a scale";

#[cfg(feature = "convert")]
pub const LORA_INSPECT: &str = "\
Examples:
  bise lora inspect my-adapter
      rank, scale, modules, size
  bise lora inspect my-adapter.gguf -m mistral-q4_k_m.gguf
      and whether it fits a model; the exit code tells
  bise lora inspect --json my-adapter
      for programs";

pub const LOGITS: &str = "\
Examples:
  bise logits -m mistral.gguf -f text.txt -o logits.npy
      for a text
  bise logits -m mistral.gguf --tokens 1,415,2936 -o logits.npy
      for token ids";

pub const EMBEDDING: &str = "\
Examples:
  bise embedding -m e5-mistral.gguf -p \"The cat sat by the fire.\"
      the vector of a text
  bise embedding -m mistral.gguf -f lines.txt --pooling mean --embd-output-format json
      a vector for each line, in the JSON of the OpenAI API";

#[cfg(feature = "hub")]
pub const RUN: &str = "\
Examples:
  bise run mistral
      downloads it the first time, and holds a conversation
  bise run mistral \"What is a fjord?\"
      one question, one answer
  bise run hf.co/bartowski/Codestral-22B-v0.1-GGUF <question.txt
      any model of Hugging Face; the question from a file

A name is looked for among your own models (bise create, bise cp), in the table of names (bise pull --help), in Ollama's store, and \
then in Ollama's registry. Type /? in a conversation for its commands.";

#[cfg(feature = "hub")]
pub const PULL: &str = "\
Examples:
  bise pull mistral
      by a name of the table
  bise pull hf.co/bartowski/Codestral-22B-v0.1-GGUF:Q5_K_M
      from Hugging Face
  bise pull smollm:135m
      from Ollama's registry

A download that was cut, by Ctrl-C or otherwise, goes on where it ended. Every file is checked by its size and SHA-256.
";

#[cfg(feature = "hub")]
pub const CREATE: &str = "\
Examples:
  printf 'FROM mistral\\nSYSTEM You are a pirate.\\nPARAMETER temperature 0.5\\n' >Modelfile
  bise create pirate -f Modelfile
  bise run pirate

FROM, PARAMETER, SYSTEM, MESSAGE, LICENSE and TEMPLATE (in Jinja) are understood. A TEMPLATE in Go's language is left out, with a \
warning, and the GGUF file's own is used; ADAPTER is refused.";

#[cfg(feature = "train")]
pub const TRAIN: &str = "\
Examples:
  bise train -m mistral-q4_k_m.gguf --data data/ -o pirate/
      learn from data/train.jsonl, as the model is served; data/valid.jsonl is evaluated on the way
  bise -m mistral-q4_k_m.gguf --lora pirate/adapter.gguf
      use what was learned
  bise train -m mistral-q4_k_m.gguf --data data/ -o pirate/ --dry-run
      print how much memory and time it takes
  bise train -m mistral-q4_k_m.gguf --data data/ -o pirate/ --resume
      go on where a run was interrupted
  bise train -m mistral-q4_k_m.gguf --data chats.jsonl -o pirate/ --mask-prompt --iters 600 --rank 8 --targets all --plot curve.svg
      learn answers alone, with a smaller adapter on all matrices, and draw the loss

A line of the data is {\"messages\": […]}, with \"tools\" if there are any, {\"prompt\": …, \"completion\": …} or {\"text\": …}. Flags of mlx_lm.lora \
(--learning-rate, --adapter-path, --steps-per-eval …) are understood. The folder holds an adapter for PEFT and adapter.gguf for \
bise and llama.cpp.";

#[cfg(feature = "server")]
pub const SERVE: &str = "\
Examples:
  bise serve -m mistral.gguf
      http://127.0.0.1:8080 for programs made for the OpenAI API (/v1/chat/completions …) or llama-server (/completion …)
  bise serve --max-memory 12G
      every model that `bise list` shows, loaded when a request names it
  bise serve -m mistral.gguf --host 0.0.0.0 --api-key SECRET
      for others in the network
  bise serve -m mistral.gguf -c 32768 --parallel 8
      eight requests at a time, 4096 tokens each
  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'";

pub const COMPLETIONS: &str = "\
Examples:
  bise completions bash >~/.local/share/bash-completion/completions/bise
  bise completions zsh >~/.zfunc/_bise
  bise completions fish >~/.config/fish/completions/bise.fish";

pub const MAN: &str = "\
Examples:
  bise man | man -l -
      read it
  bise man chat >~/.local/share/man/man1/bise-chat.1";
