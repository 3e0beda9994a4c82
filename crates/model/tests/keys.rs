//! What the keys of a GGUF file mean, key by key: those that are known, and those that are refused
//! because nothing here knows them.

mod support;

use gogrid_model::{Decoder, Model, OpenOptions, Residual, SamplingDefaults};
use support::{F32, Gguf, f32, i32s, text, u32, value};

type Change = (&'static str, support::Value);

fn open(file: &Gguf) -> Result<Model, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    Model::open(&path, &OpenOptions::default()).map_err(|error| error.to_string())
}

/// A tiny model of an architecture, with keys set below it.
fn with(architecture: &str, changes: &[Change]) -> Gguf {
    let mut file = Gguf::tiny(architecture);
    for (name, value) in changes {
        file.set(&format!("{architecture}.{name}"), value.clone());
    }
    file
}

fn decoder(file: &Gguf) -> Decoder {
    open(file).unwrap().decoder().clone()
}

/// The frequencies of every layer, and the window.
fn ropes(file: &Gguf) -> Vec<(Vec<f32>, Option<usize>)> {
    let layers = decoder(file).layers;
    let mixers = layers.iter().map(|layer| &layer.mixer);
    mixers
        .map(|m| (m.rope.frequencies.clone(), m.window))
        .collect()
}

fn flag(on: bool) -> support::Value {
    value(7, &[u8::from(on)])
}

#[test]
fn a_key_below_the_architecture_that_is_not_known_is_refused_by_name() {
    for name in [
        "rope.scaling.beta",
        "rope.theta",
        "rope.freq_base.global",
        "rope.scaling.truncate",
        "attention.sinks",
        "attention.chunk_size",
        "attention.window",
        "moe.router",
        "norm_before_gate",
        "x",
    ] {
        for architecture in support::ARCHITECTURES {
            let error = open(&with(architecture, &[(name, f32(1.0))])).unwrap_err();
            let key = format!("{architecture}.{name} at byte");
            assert!(
                error.contains(&key) && error.contains("not known"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_key_that_lost_its_architecture_is_refused_by_name() {
    for key in [
        "rope.freq_base",
        "attention.causal",
        "context_length",
        "qwen2.rope.freq_base",
    ] {
        let mut file = Gguf::tiny("llama");
        file.set(key, f32(5.0));
        let error = open(&file).unwrap_err();
        assert!(
            error.contains(key) && error.contains("outside llama.*"),
            "{error}"
        );
    }
}

#[test]
fn keys_that_describe_the_file_are_harmless() {
    let mut file = Gguf::tiny("llama");
    for key in [
        "general.author",
        "general.anything",
        "general.base_model.0.name",
        "quantize.imatrix.file",
        "imatrix.chunk_count",
        "mradermacher.quantized_by",
        "split.no",
        "tokenizer.ggml.padding_token_id",
    ] {
        file.set(key, u32(1));
    }
    file.set("general.type", text("model"));
    file.set("llama.rope.scaling.finetuned", flag(true));
    file.set("llama.tensor_data_layout", text("Meta AI original pth"));
    file.set("llama.attention.layer_norm_epsilon", f32(1e-6));
    open(&file).unwrap();
}

#[test]
fn what_no_family_has_may_only_be_off() {
    let cases: [(&str, support::Value, Option<support::Value>); 12] = [
        ("attention.causal", flag(false), Some(flag(true))),
        ("attention.scale", f32(0.5), None),
        ("attention.clamp_kqv", f32(8.0), Some(f32(0.0))),
        ("attention.max_alibi_bias", f32(8.0), Some(f32(0.0))),
        ("logit_scale", f32(0.5), Some(f32(1.0))),
        ("residual_scale", f32(0.2), Some(f32(1.0))),
        ("embedding_scale", f32(12.0), Some(f32(0.0))),
        ("expert_count", u32(8), Some(u32(0))),
        ("pooling_type", u32(2), Some(u32(3))),
        ("use_parallel_residual", flag(true), Some(flag(false))),
        ("rope.dimension_sections", i32s(&[1, 1, 0, 0]), None),
        ("rope.scaling.yarn_ext_factor", f32(0.5), Some(f32(1.0))),
    ];
    for (name, on, off) in cases {
        let error = open(&with("llama", &[(name, on)])).unwrap_err();
        assert!(error.contains(&format!("llama.{name} at byte")), "{error}");
        if let Some(off) = off {
            open(&with("llama", &[(name, off)])).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_no_model_is_refused_by_its_type() {
    let mut file = Gguf::tiny("llama");
    file.set("general.type", text("adapter"));
    let error = open(&file).unwrap_err();
    assert!(
        error.contains("general.type") && error.contains("\"adapter\""),
        "{error}"
    );
}

#[test]
fn ollamas_names_of_the_bases_mean_the_usual_ones() {
    let pattern = ("attention.sliding_window_pattern", u32(2));
    let mut usual = with("gemma3", &[pattern.clone(), ("rope.freq_base", f32(1e6))]);
    usual.set("gemma3.rope.freq_base_swa", f32(5000.0));
    for global in ["rope.global.freq_base", "rope.freq_base"] {
        let mut ollama = with("gemma3", std::slice::from_ref(&pattern));
        ollama.unset("gemma3.rope.freq_base");
        ollama.set(&format!("gemma3.{global}"), f32(1e6));
        ollama.set("gemma3.rope.local.freq_base", f32(5000.0));
        assert_eq!(ropes(&ollama), ropes(&usual));
    }
    assert_ne!(ropes(&usual), ropes(&with("gemma3", &[pattern])));
}

#[test]
fn two_names_of_one_thing_must_agree() {
    let both = |value| with("llama", &[("rope.global.freq_base", f32(value))]);
    open(&both(10_000.0)).unwrap();
    let error = open(&both(20_000.0)).unwrap_err();
    assert!(
        error.contains("llama.rope.global.freq_base at byte") && error.contains("10000"),
        "{error}"
    );
}

#[test]
fn a_base_for_windowed_layers_is_refused_where_they_have_none_of_their_own() {
    for architecture in ["llama", "qwen2", "qwen3", "gemma2", "phi3", "olmo2"] {
        for name in ["rope.freq_base_swa", "rope.local.freq_base"] {
            let error = open(&with(architecture, &[(name, f32(1e4))])).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}

#[test]
fn a_scale_whose_reciprocal_is_no_number_is_refused() {
    let error = open(&with("granite", &[("logit_scale", f32(1e-40))])).unwrap_err();
    assert!(
        error.contains("granite.logit_scale") && error.contains("next to 0"),
        "{error}"
    );
}

#[test]
fn a_window_is_refused_where_no_model_of_the_family_has_one() {
    for architecture in ["granite", "smollm3"] {
        let file = with(architecture, &[("attention.sliding_window", u32(16))]);
        let error = open(&file).unwrap_err();
        assert!(error.contains("attention.sliding_window"), "{error}");
        open(&with(architecture, &[("attention.sliding_window", u32(0))])).unwrap();
    }
}

#[test]
fn granites_multipliers_are_read_and_may_be_none() {
    let scales = |changes: &[Change]| {
        let decoder = decoder(&with("granite", changes));
        let layer = &decoder.layers[0];
        let residual = match layer.mixer.residual {
            Residual::AddScaled(scale) => scale,
            _ => 1.0,
        };
        let scale = layer.mixer.scale;
        (decoder.embedding.scale, scale, residual, decoder.head.scale)
    };
    assert_eq!(scales(&[]), (1.0, 0.5, 1.0, 0.125));
    let given = [
        ("embedding_scale", f32(12.0)),
        ("attention.scale", f32(0.25)),
        ("residual_scale", f32(0.22)),
        ("logit_scale", f32(4.0)),
    ];
    assert_eq!(scales(&given), (12.0, 0.25, 0.22, 0.25));
    let none = ["embedding_scale", "attention.scale", "residual_scale"];
    assert_eq!(scales(&none.map(|name| (name, f32(0.0)))), scales(&[]));
    let mut missing = Gguf::tiny("granite");
    missing.unset("granite.logit_scale");
    let error = open(&missing).unwrap_err();
    assert!(error.contains("granite.logit_scale is missing"), "{error}");
    for name in [none[0], none[1], none[2], "logit_scale"] {
        let error = open(&with("granite", &[(name, f32(-1.0))])).unwrap_err();
        assert!(error.contains("not above zero"), "{error}");
    }
}

#[test]
fn a_granite_that_turns_nothing_is_refused() {
    let key = "rope.scaling.finetuned";
    open(&with("granite", &[(key, flag(true))])).unwrap();
    let error = open(&with("granite", &[(key, flag(false))])).unwrap_err();
    assert!(error.contains(key), "{error}");
    open(&with("llama", &[(key, flag(false))])).unwrap();
}

#[test]
fn a_magnitude_written_out_for_yarn_is_the_papers() {
    let yarn = |magnitude| {
        let changes = [
            ("rope.scaling.type", text("yarn")),
            ("rope.scaling.factor", f32(8.0)),
            ("rope.scaling.original_context_length", u32(16)),
            ("rope.scaling.yarn_attn_factor", f32(magnitude)),
        ];
        with("olmo2", &changes)
    };
    assert_eq!(ropes(&yarn(1.207_944_2)), ropes(&yarn(1.0)));
    let error = open(&yarn(1.3)).unwrap_err();
    assert!(
        error.contains("yarn_attn_factor") && error.contains("1.3"),
        "{error}"
    );
    let plain = with("olmo2", &[("rope.scaling.yarn_attn_factor", f32(1.2))]);
    assert!(open(&plain).unwrap_err().contains("yarn_attn_factor"));
}

#[test]
fn a_factor_without_a_type_is_linear() {
    let linear = with(
        "llama",
        &[
            ("rope.scaling.type", text("linear")),
            ("rope.scaling.factor", f32(4.0)),
        ],
    );
    for name in ["rope.scaling.factor", "rope.scale_linear"] {
        assert_eq!(ropes(&with("llama", &[(name, f32(4.0))])), ropes(&linear));
        assert_eq!(
            ropes(&with("llama", &[(name, f32(0.0))])),
            ropes(&Gguf::tiny("llama"))
        );
    }
    assert_ne!(ropes(&linear), ropes(&Gguf::tiny("llama")));
}

#[test]
fn ollamas_names_of_yarns_bounds_mean_the_usual_ones() {
    let yarn = |fast: &'static str, slow: &'static str| {
        with(
            "gemma3",
            &[
                ("attention.sliding_window", u32(0)),
                ("rope.scaling.type", text("yarn")),
                ("rope.scaling.factor", f32(4.0)),
                ("rope.scaling.original_context_length", u32(16)),
                (fast, f32(64.0)),
                (slow, f32(0.5)),
            ],
        )
    };
    let usual = yarn("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow");
    let mut ollama = yarn("rope.scaling.beta_fast", "rope.scaling.beta_slow");
    ollama.set("gemma3.rope.scaling.extrapolation_factor", f32(1.0));
    assert_eq!(ropes(&ollama), ropes(&usual));
}

#[test]
fn a_gemma3_without_a_window_sees_everything_in_every_layer() {
    let mut file = with("gemma3", &[("rope.freq_base", f32(1e6))]);
    let windowed = ropes(&file);
    file.unset("gemma3.attention.sliding_window");
    let missing = ropes(&file);
    file.set("gemma3.attention.sliding_window", u32(0));
    let zero = ropes(&file);
    file.set("gemma3.attention.sliding_window", u32(32));
    file.set("gemma3.attention.sliding_window_pattern", u32(1));
    let pattern_of_one = ropes(&file);
    assert!(
        windowed[0].1.is_some() && windowed[0].0[1] == 0.01,
        "{windowed:?}"
    );
    for all in [missing, zero, pattern_of_one] {
        assert!(all[0].1.is_none() && all[0].0[1] == 0.001, "{all:?}");
    }
}

#[test]
fn dimensions_of_one_change_no_tensor() {
    let plain = decoder(&Gguf::tiny("llama"));
    for tensor in [
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "token_embd.weight",
    ] {
        let mut file = Gguf::tiny("llama");
        let dims = &mut file.find(tensor).dims;
        while dims.len() < 4 {
            dims.push(1);
        }
        let padded = decoder(&file);
        assert_eq!(padded.vocab, plain.vocab, "{tensor}");
        assert_eq!(padded.head.norm, plain.head.norm, "{tensor}");
        file.find(tensor).dims[3] = 2;
        assert!(open(&file).unwrap_err().contains(tensor), "{tensor}");
    }
}

#[test]
fn sampling_is_suggested_within_bounds_and_told_beyond() {
    let mut file = Gguf::tiny("llama");
    let none = open(&file).unwrap().sampling_defaults();
    assert_eq!(none, SamplingDefaults::default());
    file.set("general.sampling.temp", f32(0.5));
    file.set("general.sampling.top_k", support::i32(20));
    file.set("general.sampling.top_p", f32(0.75));
    file.set("general.sampling.min_p", f32(0.0));
    file.set("general.sampling.penalty_repeat", f32(1.25));
    let model = open(&file).unwrap();
    let all = SamplingDefaults {
        temperature: Some(0.5),
        top_k: Some(20),
        top_p: Some(0.75),
        min_p: Some(0.0),
        repetition_penalty: Some(1.25),
    };
    assert_eq!(model.sampling_defaults(), all);
    assert_eq!(model.warnings(), [""; 0]);
    for (name, wrong) in [
        ("temp", f32(-1.0)),
        ("temp", f32(f32::NAN)),
        ("top_k", support::i32(-1)),
        ("top_k", f32(1.5)),
        ("top_p", f32(1.5)),
        ("min_p", text("x")),
        ("penalty_repeat", f32(0.0)),
        ("mirostat", support::i32(2)),
        ("xtc_probability", f32(0.5)),
    ] {
        let mut file = Gguf::tiny("llama");
        let key = format!("general.sampling.{name}");
        file.set(&key, wrong);
        let model = open(&file).unwrap();
        assert_eq!(model.sampling_defaults(), none, "{name}");
        let [warning] = model.warnings() else {
            panic!("{name}: {:?}", model.warnings())
        };
        assert!(
            warning.contains(&key) && warning.contains("left out"),
            "{warning}"
        );
    }
}

#[test]
fn special_tokens_past_the_vocabulary_are_none_and_a_warning() {
    let mut file = Gguf::tiny("llama");
    assert_eq!(open(&file).unwrap().warnings(), [""; 0]);
    file.set("tokenizer.ggml.eos_token_id", u32(u32::MAX));
    file.set("tokenizer.ggml.fim_pad_token_id", u32(6));
    let model = open(&file).unwrap();
    let [eos, fim] = model.warnings() else {
        panic!("{:?}", model.warnings())
    };
    assert!(eos.contains("eos_token_id is 4294967295") && fim.contains("fim_pad_token_id is 6"));
}

#[test]
fn factors_for_short_sequences_alone_are_not_ignored() {
    let mut file = with("phi3", &[("rope.scaling.original_context_length", u32(16))]);
    file.set("phi3.rope.scaling.attn_factor", f32(1.2));
    file.tensor("rope_factors_short.weight", &[2], F32);
    let error = open(&file).unwrap_err();
    assert!(
        error.contains("rope_factors_long.weight is missing"),
        "{error}"
    );
}

#[test]
fn a_model_that_changed_since_it_was_opened_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let bytes = Gguf::tiny("llama").bytes();
    type Change<'c> = (&'c dyn Fn(&std::fs::File), String);
    let len = bytes.len();
    let changes: [Change<'_>; 3] = [
        (
            &|file| file.set_len(len as u64 - 1).unwrap(),
            format!("it had {len} bytes, and then {}", len - 1),
        ),
        (
            &|file| file.set_len(len as u64 + 1).unwrap(),
            format!("it had {len} bytes, and then {}", len + 1),
        ),
        // The same length at another time, as zeros written over it leave it.
        (
            &|file| {
                file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                    .unwrap()
            },
            format!("it was written, and kept its length of {len} bytes"),
        ),
    ];
    for (change, what) in changes {
        std::fs::write(&path, &bytes).unwrap();
        let model = Model::open(&path, &OpenOptions::default()).unwrap();
        model.check_unchanged().unwrap();
        change(&std::fs::File::options().write(true).open(&path).unwrap());
        let error = model.check_unchanged().unwrap_err().to_string();
        let what = format!("m.gguf: the file changed while it was read: {what}; open it again");
        assert!(error.contains(&what), "{error}");
    }
    // Another file under its name is another file.
    std::fs::write(&path, &bytes).unwrap();
    let model = Model::open(&path, &OpenOptions::default()).unwrap();
    std::fs::rename(&path, folder.path().join("old.gguf")).unwrap();
    std::fs::write(&path, b"other").unwrap();
    model.check_unchanged().unwrap();
}
