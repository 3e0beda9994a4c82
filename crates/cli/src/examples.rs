//! The examples that the help and the manual page of each command end with.

/// Two or more command lines for the command of these words; none for one that has no help of its own.
#[expect(clippy::too_many_lines, reason = "it is a list")]
pub(crate) fn examples(words: &str) -> &'static [&'static str] {
    match words {
        "" => &[
            "gogrid generate \"Name three colours.\"",
            "gogrid serve --model smollm2-135m",
        ],
        "devices" => &["gogrid devices", "gogrid devices --json"],
        "pull" => &[
            "gogrid pull llama3.2:1b qwen2.5-coder-1.5b",
            "gogrid pull hf.co/bartowski/gemma-2-2b-it-GGUF:Q4_K_M --json",
        ],
        "list" => &["gogrid list", "gogrid list --json"],
        "show" => &["gogrid show qwen3-4b", "gogrid show model.gguf --json"],
        "run" => &[
            "gogrid run llama3.2:1b",
            "gogrid run smollm2-135m \"Name three colours.\"",
        ],
        "rm" => &[
            "gogrid rm gemma3-270m",
            "gogrid rm smollm2-135m gemma3-270m",
        ],
        "ps" => &["gogrid ps", "gogrid ps --json"],
        "completions" => &[
            "gogrid completions bash > ~/.local/share/bash-completion/completions/gogrid",
            "gogrid completions zsh > ~/.zfunc/_gogrid",
        ],
        "man" => &[
            "gogrid man ~/.local/share/man/man1",
            "gogrid man /usr/local/share/man/man1",
        ],
        "service" => &["gogrid service install", "gogrid service status"],
        "service install" => &[
            "gogrid service install",
            "gogrid service install -- --model qwen2.5-coder-1.5b --mode default",
        ],
        "service status" => &["gogrid service status", "gogrid service status --json"],
        "service remove" => &["gogrid service remove", "gogrid service remove > /dev/null"],
        "plan" => &[
            "gogrid plan --model model.gguf --why",
            "gogrid plan --device cpu:0 --device cpu:1 --mode aggressive",
        ],
        "generate" => &[
            "gogrid generate \"Name three colours.\"",
            "git diff | gogrid generate \"Summarise this change:\" --quiet",
            "gogrid generate --model model.gguf --temperature 0 --json \"2 + 2 =\"",
        ],
        "chat" => &[
            "gogrid chat --system \"Answer in one sentence.\"",
            "gogrid chat --model qwen2.5-1.5b --mode default",
        ],
        "eval" => &[
            "gogrid eval --text notes.txt",
            "curl -s https://example.org/ | gogrid eval --text - --json",
        ],
        "tokenize" => &[
            "gogrid tokenize --text notes.txt",
            "echo hello | gogrid tokenize --text - --json",
        ],
        "bench" => &[
            "gogrid bench --mode aggressive --json",
            "gogrid bench --synthetic 7b-q4_k --runs 1",
        ],
        "bench desktop" => &[
            "gogrid bench desktop --triples 4",
            "gogrid bench desktop --cold --mode aggressive --json",
        ],
        "bench pause" => &[
            "gogrid bench pause --tries 100",
            "gogrid bench pause --mode aggressive --json",
        ],
        "bench soak" => &[
            "gogrid bench soak --minutes 30 --seed 1",
            "gogrid bench soak --model model.gguf --device cpu:0 --device cpu:1",
        ],
        "serve" => &[
            "gogrid serve --model smollm2-135m",
            "gogrid serve --models ~/models --listen 0.0.0.0:11711 --api-key-file keys.txt",
        ],
        "limits" => &["gogrid limits get", "gogrid limits snooze 30m"],
        "limits get" => &["gogrid limits get", "gogrid limits get --prometheus"],
        "limits set" => &[
            "gogrid limits set max_compute_usage_percent=0.3",
            "gogrid limits set --mode default away.max_batch_size=8",
        ],
        "limits pause" => &["gogrid limits pause", "gogrid limits pause --pid 4711"],
        "limits resume" => &["gogrid limits resume", "gogrid limits resume --verbose"],
        "limits snooze" => &[
            "gogrid limits snooze 30m",
            "gogrid limits snooze 2h --pid 4711",
        ],
        "limits finish" => &["gogrid limits finish", "gogrid limits finish --pid 4711"],
        "limits move" => &[
            "gogrid limits move cpu:0=0-30 cpu:1=30-62",
            "gogrid limits move cpu=0-62 --verbose",
        ],
        "top" => &["gogrid top", "gogrid top --once --pid 4711"],
        _ => &[],
    }
}
