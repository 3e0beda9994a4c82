//! The fields of config.json, field by field: what published configs have is taken and means what it
//! means to transformers; what is not known is refused by name.

use std::path::Path;

use gogrid_model::{Decoder, Model, OpenOptions, Residual, SamplingDefaults};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;
use serde_json::{Value, json};

/// Opens a folder of a tiny model with these changes to its config.json.
fn open(family: Family, changes: &Value) -> Result<Decoder, String> {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec {
        family,
        weights: WeightType::F32,
        seed: 1,
    };
    let tiny = RandomModel::new(spec);
    tiny.write_hugging_face(folder.path(), 1).unwrap();
    edit(&folder.path().join("config.json"), changes);
    let model = Model::open(folder.path(), &OpenOptions::default());
    model
        .map(|model| model.decoder().clone())
        .map_err(|error| error.to_string())
}

fn edit(path: &Path, changes: &Value) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(path, config.to_string()).unwrap();
}

fn windows(family: Family, changes: &Value) -> Vec<Option<usize>> {
    let layers = open(family, changes).unwrap().layers;
    layers.iter().map(|layer| layer.mixer.window).collect()
}

#[track_caller]
fn check_refused(family: Family, changes: &Value, words: &[&str]) {
    let error = open(family, changes).expect_err("it is wrong");
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error:?}");
    }
}

/// What published configs have beside sizes and rotations: of Llama 2 and 3, TinyLlama, SmolLM2 and
/// DeepSeek-R1-Distill-Llama together, and of the other families' models.
const PUBLISHED: &str = include_str!("published_configs.json");

#[test]
fn fields_of_published_configs_are_taken() {
    let published: Value = serde_json::from_str(PUBLISHED).unwrap();
    for (name, fields) in published.as_object().unwrap() {
        let family = Family::ALL.into_iter().find(|f| format!("{f:?}") == *name);
        let family = family.unwrap_or_else(|| panic!("no family {name}"));
        let plain = open(family, &json!({})).unwrap();
        let found = open(family, fields).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found.kv_groups, plain.kv_groups, "{name}");
        assert_eq!(
            found.layers[0].mixer.rope, plain.layers[0].mixer.rope,
            "{name}"
        );
    }
}

#[test]
fn fields_that_are_not_known_are_refused_by_name() {
    for (field, value) in [
        ("attention_multiplier", json!(0.0078)),
        ("logits_scaling", json!(8.0)),
        ("no_rope_layers", json!([1, 1, 0])),
        ("no_rope_layer_interval", json!(4)),
        ("use_qk_norm", json!(true)),
        ("layer_norm_eps", json!(1e-5)),
    ] {
        check_refused(
            Family::Llama,
            &json!({ field: value }),
            &["config.json", field],
        );
        open(Family::Llama, &json!({ field: null })).unwrap();
    }
}

#[test]
fn what_no_family_has_may_only_be_off() {
    for field in [
        "mlp_bias",
        "rope_interleaved",
        "use_bidirectional_attention",
        "use_mrope",
    ] {
        check_refused(Family::Llama, &json!({ field: true }), &[field, "true"]);
        open(Family::Llama, &json!({ field: false })).unwrap();
    }
    check_refused(Family::Llama, &json!({"num_experts": 8}), &["num_experts"]);
    check_refused(
        Family::Phi3,
        &json!({"full_attn_mod": 2}),
        &["full_attn_mod"],
    );
}

#[test]
fn fields_of_a_rotation_that_are_not_known_are_refused_by_name() {
    let yarn = |more: &Value| {
        let mut scaling = json!({
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64
        });
        let more = more.as_object().unwrap().clone();
        scaling.as_object_mut().unwrap().extend(more);
        scaling
    };
    for (field, value) in [
        ("mscale", json!(0.707)),
        ("mscale_all_dim", json!(0.707)),
        ("truncate", json!(false)),
        ("mrope_section", json!([16, 24, 24])),
    ] {
        let scaling = yarn(&json!({ field: value }));
        let named = format!("rope_scaling.{field}");
        check_refused(
            Family::Llama,
            &json!({ "rope_scaling": scaling }),
            &[&named],
        );
        let parameters = json!({ "rope_parameters": scaling });
        let named = format!("rope_parameters.{field}");
        check_refused(Family::Llama, &parameters, &[&named]);
    }
    let harmless = yarn(&json!({"truncate": true, "finetuned": true, "mscale": null}));
    open(Family::Llama, &json!({ "rope_scaling": harmless })).unwrap();
}

#[test]
fn rotations_for_each_kind_of_layer_are_whole_or_refused() {
    let one = json!({"rope_type": "default", "rope_theta": 1e4});
    let both = |full: &Value, sliding: &Value| json!({"rope_parameters": {"full_attention": full, "sliding_attention": sliding}});
    open(Family::Gemma3, &both(&one, &one)).unwrap();
    let scaled = json!({"rope_type": "default", "rope_theta": 1e4, "mscale": 1.0});
    let words = ["rope_parameters.sliding_attention.mscale"];
    check_refused(Family::Gemma3, &both(&one, &scaled), &words);
    let missing = json!({"rope_parameters": {"full_attention": one}});
    let words = ["rope_parameters.sliding_attention is missing"];
    check_refused(Family::Gemma3, &missing, &words);
    let third = json!({"rope_parameters": {
        "full_attention": one, "sliding_attention": one, "chunked_attention": one
    }});
    check_refused(
        Family::Gemma3,
        &third,
        &["rope_parameters.chunked_attention"],
    );
    let number = json!({"rope_parameters": {"full_attention": 1, "sliding_attention": one}});
    check_refused(
        Family::Gemma3,
        &number,
        &["full_attention", "not an object"],
    );
}

#[test]
fn wrong_rotations_are_refused() {
    for (scaling, words) in [
        (json!({"factor": 2.0}), ["rope_type", "is missing"]),
        (json!({"rope_type": "dynamic"}), ["\"dynamic\"", "llama3"]),
        (json!({"rope_type": "linear"}), ["factor", "is missing"]),
        (
            json!({"rope_type": "linear", "factor": 0.0}),
            ["factor", "not above zero"],
        ),
        (
            json!({"rope_type": "linear", "factor": "x"}),
            ["rope_scaling", "invalid type"],
        ),
        (
            json!({"rope_type": "yarn", "factor": 2.0}),
            ["original_max_position", "missing"],
        ),
        (
            json!({"rope_type": "longrope"}),
            ["original_max_position", "missing"],
        ),
    ] {
        check_refused(Family::Llama, &json!({ "rope_scaling": scaling }), &words);
    }
    let share = json!({"partial_rotary_factor": 1.5});
    check_refused(
        Family::Phi3,
        &share,
        &["partial_rotary_factor", "not over 0"],
    );
}

/// As transformers' models read the fields: which have a window, and in which layers.
#[test]
fn windows_are_where_the_models_own_code_has_them() {
    let none = |layers| vec![None; layers];
    // LlamaConfig has no window: the field means nothing there, in any layer.
    let llama = json!({"sliding_window": 8, "layer_types": vec!["sliding_attention"; 3]});
    assert_eq!(windows(Family::Llama, &llama), none(3));
    // Mistral and Phi-3: all layers, unless it is null.
    for family in [Family::Mistral, Family::Phi3] {
        assert_eq!(windows(family, &json!({"sliding_window": 8})), [Some(8); 3]);
        assert_eq!(windows(family, &json!({"sliding_window": null})), none(3));
    }
    // Qwen: only with the switch, and then from a layer on, or as the layers are listed.
    for family in [Family::Qwen2, Family::Qwen3] {
        let qwen = |on: bool| json!({"sliding_window": 8, "max_window_layers": 1, "use_sliding_window": on});
        assert_eq!(windows(family, &qwen(false)), none(3));
        assert_eq!(windows(family, &qwen(true)), [None, Some(8), Some(8)]);
        let mut listed = qwen(true);
        listed["layer_types"] = json!(["sliding_attention", "full_attention", "full_attention"]);
        assert_eq!(windows(family, &listed), [Some(8), None, None]);
        let no_switch = json!({"sliding_window": 8, "max_window_layers": 1});
        assert_eq!(windows(family, &no_switch), none(3));
    }
    let gemma2 = windows(Family::Gemma2, &json!({"sliding_window": 8}));
    assert_eq!(gemma2, [Some(8), None, Some(8), None]);
    // OLMo 3: three layers of four, unless they are listed. OLMo 2 has no window.
    let olmo3 = json!({"sliding_window": 8, "layer_types": null});
    let of_layers = [Some(8), Some(8), Some(8), None, Some(8)];
    assert_eq!(windows(Family::Olmo3, &olmo3), of_layers);
    let no_window = json!({"sliding_window": null});
    check_refused(Family::Olmo3, &no_window, &["sliding_window is missing"]);
    assert_eq!(
        windows(Family::Olmo2, &json!({"sliding_window": 8})),
        none(3)
    );
    // SmolLM3: with the switch, the layers that do not turn.
    let smollm3 = json!({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1, "layer_types": null});
    let unturned = [None, None, None, Some(8), None];
    assert_eq!(windows(Family::SmolLm3, &smollm3), unturned);
    let every = json!({"sliding_window_pattern": 1, "sliding_window": null});
    assert_eq!(windows(Family::Gemma3, &every), none(7));
}

#[test]
fn granite_names_all_of_its_multipliers() {
    for field in [
        "embedding_multiplier",
        "attention_multiplier",
        "residual_multiplier",
        "logits_scaling",
    ] {
        check_refused(
            Family::Granite,
            &json!({ field: null }),
            &[field, "missing"],
        );
        for wrong in [0.0, -1.0, 1e39] {
            let words = [field, "not above zero"];
            check_refused(Family::Granite, &json!({ field: wrong }), &words);
        }
    }
    check_refused(
        Family::Granite,
        &json!({"logits_scaling": 1e-40}),
        &["logits_scaling", "next to 0"],
    );
    // Where nothing is multiplied, nothing is kept.
    let plain = open(Family::Granite, &json!({"residual_multiplier": 1.0})).unwrap();
    assert_eq!(plain.layers[0].mixer.residual, Residual::Add);
}

#[test]
fn layers_that_turn_are_listed_or_go_by_an_interval() {
    let turned = |changes: &Value| -> Vec<bool> {
        let layers = open(Family::SmolLm3, changes).unwrap().layers;
        let ropes = layers.iter().map(|layer| &layer.mixer.rope);
        ropes.map(|rope| !rope.frequencies.is_empty()).collect()
    };
    let listed = json!({"no_rope_layers": [0, 1, 1, 1, 0]});
    assert_eq!(turned(&listed), [false, true, true, true, false]);
    let interval = json!({"no_rope_layers": null, "no_rope_layer_interval": 2});
    assert_eq!(turned(&interval), [true, false, true, false, true]);
    let neither = json!({"no_rope_layers": null, "no_rope_layer_interval": null});
    assert_eq!(turned(&neither), [true, true, true, false, true]);
    for (list, words) in [
        (json!([1, 1]), "2 entries for 5 layers"),
        (json!([1, 1, 1, 2, 1]), "2 is neither 0 nor 1"),
    ] {
        let changes = json!({"no_rope_layers": list});
        check_refused(Family::SmolLm3, &changes, &["no_rope_layers", words]);
    }
    let zero = json!({"no_rope_layers": null, "no_rope_layer_interval": 0});
    check_refused(Family::SmolLm3, &zero, &["no_rope_layer_interval"]);
}

/// What a folder with this generation_config.json suggests, and is warned of.
fn suggested(generation: &str) -> (SamplingDefaults, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec {
        family: Family::Llama,
        weights: WeightType::F32,
        seed: 1,
    };
    let tiny = RandomModel::new(spec);
    tiny.write_hugging_face(folder.path(), 1).unwrap();
    std::fs::write(folder.path().join("generation_config.json"), generation).unwrap();
    let model = Model::open(folder.path(), &OpenOptions::default()).unwrap();
    (model.sampling_defaults(), model.warnings().to_vec())
}

#[test]
fn generation_config_suggests_how_tokens_are_chosen() {
    let qwen =
        r#"{"do_sample": true, "temperature": 0.5, "top_p": 0.75, "top_k": 20, "min_p": null}"#;
    let (found, warnings) = suggested(qwen);
    let named = SamplingDefaults {
        temperature: Some(0.5),
        top_k: Some(20),
        top_p: Some(0.75),
        ..SamplingDefaults::default()
    };
    assert_eq!((found, warnings), (named, Vec::new()));
    // What is left out says nothing: published files leave do_sample out for no reason.
    assert_eq!(suggested("{}").0, SamplingDefaults::default());
    let greedy = r#"{"do_sample": false, "temperature": 0.5, "repetition_penalty": 1.25}"#;
    let likeliest = SamplingDefaults {
        temperature: Some(0.0),
        repetition_penalty: Some(1.25),
        ..SamplingDefaults::default()
    };
    assert_eq!(suggested(greedy).0, likeliest);
    for (field, value) in [
        ("temperature", "1e300"),
        ("top_p", "-0.5"),
        ("top_k", "2.5"),
        ("min_p", "\"0.1\""),
        ("repetition_penalty", "[1.1]"),
    ] {
        let (found, warnings) = suggested(&format!("{{\"{field}\": {value}}}"));
        assert_eq!(found, SamplingDefaults::default());
        let [warning] = warnings.as_slice() else {
            panic!("{field}: {warnings:?}")
        };
        let words = ["generation_config.json", field, "left out"];
        assert!(words.iter().all(|word| warning.contains(word)), "{warning}");
    }
}

#[test]
fn wrong_windows_and_caps_are_refused() {
    let on = |more: Value| {
        let mut changes = json!({"use_sliding_window": true});
        changes
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        changes
    };
    let no_layer = on(json!({"sliding_window": 8}));
    check_refused(Family::Qwen2, &no_layer, &["max_window_layers is missing"]);
    let no_window = on(json!({"max_window_layers": 1}));
    check_refused(Family::Qwen2, &no_window, &["sliding_window is missing"]);
    let short = on(json!({"sliding_window": 8, "layer_types": ["full_attention"]}));
    check_refused(
        Family::Qwen2,
        &short,
        &["layer_types", "1 entries for 3 layers"],
    );
    let other = on(json!({"sliding_window": 8, "layer_types": vec!["linear_attention"; 3]}));
    check_refused(Family::Qwen2, &other, &["layer_types", "linear_attention"]);
    let none = json!({"sliding_window": null});
    check_refused(Family::Gemma2, &none, &["sliding_window is missing"]);
    let cap = json!({"attn_logit_softcapping": 50.0});
    check_refused(
        Family::Llama,
        &cap,
        &["attn_logit_softcapping", "gemma2 and gemma3"],
    );
    let no_cap = json!({"attn_logit_softcapping": null});
    check_refused(
        Family::Gemma2,
        &no_cap,
        &["attn_logit_softcapping is missing"],
    );
}
